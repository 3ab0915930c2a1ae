package main

import (
	"time"

	"clients/program"

	"github.com/r3labs/sse/v2"
)

func main() {
	url, savedID := program.Arguments()
	var options []func(*sse.Client)
	if program.Large() {
		options = append(options, sse.ClientMaxBufferSize(program.LargeBytes))
	}
	client := sse.NewClient(url, options...)
	if savedID != "" {
		client.LastEventID.Store([]byte(savedID))
	}
	client.ReconnectNotify = func(err error, _ time.Duration) { program.Complain(err) }
	err := client.SubscribeRaw(func(message *sse.Event) {
		program.Deliver(string(message.Event), string(message.Data), string(message.ID))
	})
	if err != nil {
		program.Complain(err)
	}
}
