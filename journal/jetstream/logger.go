package jetstream

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/rs/zerolog"
)

// natsLogger gives the server's messages to zerolog. A fatal one, after which the server expects to be
// gone, is kept instead of ending the process.
type natsLogger struct {
	log     zerolog.Logger
	onError func() // called with the server's locks held

	mu    sync.Mutex
	fatal error
}

func (l *natsLogger) Noticef(format string, v ...any) { l.log.Debug().Msgf(format, v...) }
func (l *natsLogger) Debugf(format string, v ...any)  { l.log.Debug().Msgf(format, v...) }
func (l *natsLogger) Tracef(format string, v ...any)  { l.log.Trace().Msgf(format, v...) }

// expected are messages of a cluster's server that say nothing new: what they warn of is meant, or told otherwise.
func expected(message string) bool {
	for _, prefix := range [...]string{
		"Plaintext passwords detected",                         // made up for this run, and told to nobody
		"TLS certificate chain and hostname",                   // the very key is checked instead
		"Error trying to connect to route", "Waiting for rout", // while others are not there
	} {
		if strings.HasPrefix(message, prefix) {
			return true
		}
	}
	return false
}

func (l *natsLogger) Warnf(format string, v ...any) {
	if expected(fmt.Sprintf(format, v...)) {
		l.Debugf(format, v...)
		return
	}
	l.log.Warn().Msgf(format, v...)
}

func (l *natsLogger) Errorf(format string, v ...any) {
	if expected(fmt.Sprintf(format, v...)) {
		l.Debugf(format, v...)
		return
	}
	l.onError()
	l.log.Error().Msgf(format, v...)
}

func (l *natsLogger) Fatalf(format string, v ...any) {
	msg := fmt.Sprintf(format, v...)
	l.log.Error().Msg(msg)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fatal = errors.New(msg)
}

// takeFailure returns the newest fatal message and forgets it.
func (l *natsLogger) takeFailure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.fatal
	l.fatal = nil
	return err
}
