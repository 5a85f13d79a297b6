package jetstream

import (
	"errors"
	"fmt"
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
func (l *natsLogger) Warnf(format string, v ...any)   { l.log.Warn().Msgf(format, v...) }
func (l *natsLogger) Debugf(format string, v ...any)  { l.log.Debug().Msgf(format, v...) }
func (l *natsLogger) Tracef(format string, v ...any)  { l.log.Trace().Msgf(format, v...) }

func (l *natsLogger) Errorf(format string, v ...any) {
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
