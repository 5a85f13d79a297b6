package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"github.com/dormouse-mcp/dormouse/journal"
)

var (
	// ErrLocked says that another process uses the data folder: two servers on one would corrupt it.
	// Stop that process, talk to it instead, or choose another folder.
	ErrLocked = errors.New("data folder in use")

	// ErrNoJournal says that there is no journal where one was expected, or only a part of one. It is never
	// created silently where anything of it is left. If it should be there, look for what happened to it,
	// or restore a backup; if there never was one, open it with Options.Create.
	ErrNoJournal = errors.New("no journal")

	// ErrWrongStream says that a stream of the journal's name is not configured as a journal must be.
	// The message says which setting; an operator has to change it, or choose another prefix.
	ErrWrongStream = errors.New("stream not fit for a journal")

	// ErrOptions says that options contradict each other. Nothing was connected to.
	ErrOptions = errors.New("options")

	// ErrDiskFull says that the embedded server's disk has less room than is to stay free. Nothing was
	// stored. Free some: appends then go on by themselves.
	ErrDiskFull = errors.New("disk full")

	// ErrStoreFailed says that the embedded server could not write, or not sync, its files. It is started
	// again as soon as the disk takes writes; until then what it says of the newest message is not to be
	// believed.
	ErrStoreFailed = errors.New("the store's files cannot be written")
)

// Codes of API errors with which a server refuses a message before it does anything with it.
const (
	codeAccountExceeded   js.ErrorCode = 10002
	codeNoPeers           js.ErrorCode = 10005 // for a stream's replicas: perhaps they are just starting
	codeSystemUnavailable js.ErrorCode = 10008
	codeNotLeader         js.ErrorCode = 10009
	codeServerExceeded    js.ErrorCode = 10023
	codeSequenceNotReady  js.ErrorCode = 10163
	codeDeleteMissing     js.ErrorCode = 10043
)

// publishError translates why a publish failed. Only what surely happened before anything was stored
// becomes journal.ErrConflict or journal.ErrUnavailable; the rest is in doubt.
func publishError(ctx context.Context, err error) error {
	switch {
	case hasCode(err, js.JSErrCodeStreamWrongLastSequence, js.JSErrCodeStreamWrongLastSequenceConstant):
		return fmt.Errorf("publish: %w: %w", journal.ErrConflict, err)
	case hasCode(err, codeSystemUnavailable, codeNotLeader, codeSequenceNotReady, codeServerExceeded, codeAccountExceeded),
		errors.Is(err, js.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders),
		errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrConnectionDraining):
		return unavailable("publish", err)
	case ctx.Err() != nil:
		return fmt.Errorf("publish: %w", context.Cause(ctx))
	}
	return fmt.Errorf("publish: %w", err)
}

// hasCode reports whether err is the server's answer with one of the codes.
func hasCode(err error, codes ...js.ErrorCode) bool {
	var api *js.APIError
	return errors.As(err, &api) && slices.Contains(codes, api.ErrorCode)
}

// askError translates why a question to the stream's leader was not answered.
func askError(ctx context.Context, what string, err error) error {
	var api *js.APIError
	switch {
	case errors.Is(err, js.ErrMsgNotFound):
		return fmt.Errorf("%s: %w", what, journal.ErrNoMessage)
	case errors.Is(err, js.ErrStreamNotFound):
		return fmt.Errorf("%s: %w: %w", what, ErrNoJournal, err)
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	case errors.As(err, &api) && api.Code < 500 && api.ErrorCode != codeNoPeers:
		return fmt.Errorf("%s: %w", what, err)
	default: // not connected, no responders, no leader, no answer in time
		return unavailable(what, err)
	}
}

func unavailable(what string, err error) error {
	return fmt.Errorf("%s: %w: %w", what, journal.ErrUnavailable, err)
}
