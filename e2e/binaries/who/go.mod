module sipfleet.io/e2e/who

go 1.26.0
