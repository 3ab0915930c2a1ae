// Package program is what the programs have in common: their arguments, and what they print.
package program

import (
	"encoding/json"
	"fmt"
	"os"
)

// LargeBytes is twice the server's body_bytes_max.
const LargeBytes = 2 << 20

// Arguments returns the stream's address and the id to resume from, which may be empty.
func Arguments() (url, savedID string) {
	if len(os.Args) > 2 {
		savedID = os.Args[2]
	}
	return os.Args[1], savedID
}

// Large tells whether a library that stops at a long line shall be given the option that helps.
func Large() bool {
	return os.Getenv("LARGE") != ""
}

// Deliver prints what the library delivered.
func Deliver(event, data, id string) {
	line := map[string]string{"event": event, "data": data, "id": id}
	if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
		os.Exit(1)
	}
}

// Complain prints an error.
func Complain(err error) {
	fmt.Fprintln(os.Stderr, err)
}
