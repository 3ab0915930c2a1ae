package main

import (
	"time"

	"clients/program"

	"github.com/launchdarkly/eventsource"
)

func main() {
	url, savedID := program.Arguments()
	stream, err := eventsource.SubscribeWithURL(url,
		eventsource.StreamOptionLastEventID(savedID),
		eventsource.StreamOptionInitialRetry(time.Second),
		eventsource.StreamOptionErrorHandler(func(err error) eventsource.StreamErrorHandlerResult {
			program.Complain(err)
			return eventsource.StreamErrorHandlerResult{}
		}))
	if err != nil {
		program.Complain(err)
		return
	}
	for event := range stream.Events {
		program.Deliver(event.Event(), event.Data(), event.Id())
	}
}
