package main

import (
	"clients/program"

	"github.com/donovanhide/eventsource"
)

func main() {
	url, savedID := program.Arguments()
	stream, err := eventsource.Subscribe(url, savedID)
	if err != nil {
		program.Complain(err)
		return
	}
	for {
		select {
		case event := <-stream.Events:
			program.Deliver(event.Event(), event.Data(), event.Id())
		case err := <-stream.Errors:
			program.Complain(err)
		}
	}
}
