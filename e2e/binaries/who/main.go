// Command who tells whoever asks, over HTTP (port 8080) or UDP (port 5060), which pod answers and from where it sees the question come:
// "POD ADDRESS:PORT QUESTION". A question over HTTP is its path.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
)

func main() {
	name, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	// IPv4 sockets, so that an address is not written as one of IPv6.
	packets, err := net.ListenPacket("udp4", ":5060")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		buffer := make([]byte, 1500)
		for {
			size, from, err := packets.ReadFrom(buffer)
			if err != nil {
				log.Fatal(err)
			}
			answer := fmt.Sprintf("%s %s %s\n", name, from, strings.TrimSpace(string(buffer[:size])))
			if _, err := packets.WriteTo([]byte(answer), from); err != nil {
				log.Print(err)
			}
		}
	}()
	listener, err := net.Listen("tcp4", ":8080")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("ready")
	log.Fatal(http.Serve(listener, http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		fmt.Fprintf(out, "%s %s %s\n", name, in.RemoteAddr, in.URL.Path)
	})))
}
