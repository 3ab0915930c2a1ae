package main

import (
	"net/http"
	"time"

	"clients/program"

	"github.com/tmaxmax/go-sse"
)

func main() {
	url, savedID := program.Arguments()
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		panic(err)
	}
	if savedID != "" {
		// As a header it would be removed before the first reconnect, if no event had come by then.
		query := request.URL.Query()
		query.Set("last_event_id", savedID)
		request.URL.RawQuery = query.Encode()
	}
	client := *sse.DefaultClient
	client.OnRetry = func(err error, _ time.Duration) { program.Complain(err) }
	connection := client.NewConnection(request)
	if program.Large() {
		connection.Buffer(nil, program.LargeBytes)
	}
	connection.SubscribeToAll(func(event sse.Event) {
		program.Deliver(event.Type, event.Data, event.LastEventID)
	})
	program.Complain(connection.Connect())
}
