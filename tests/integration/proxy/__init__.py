"""The program `sipproxy` as a process: its sockets, signals and admin port."""
