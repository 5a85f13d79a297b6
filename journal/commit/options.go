package commit

import (
	"errors"
	"time"

	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Defaults of Options.
const (
	DefaultLinger         = 5 * time.Millisecond
	DefaultMaxBuffered    = 1 << 16
	DefaultAttemptTimeout = 5 * time.Second
	DefaultRetryEvery     = 50 * time.Millisecond
	DefaultMaxRetry       = time.Second
	DefaultMaxWait        = 10 * time.Second
	DefaultKeepBatches    = 256
	DefaultKeepBytes      = 64 << 20
)

// Options configures a Committer. Port, Encoder, Journal and Writer must be set.
type Options struct {
	Port    Port
	Encoder Encoder
	Journal journal.ID
	// Writer must be new: no batch of it is in the stream. See journal.NewWriterID.
	Writer journal.WriterID
	// Basis, if not nil, gives the history that this process has folded; it is asked once a batch and must
	// not block.
	Basis func() journal.Basis

	// Linger is how long a posted access may wait for company. 0 means DefaultLinger, negative means none.
	Linger time.Duration
	// MaxBuffered bounds the posted accesses that wait. 0 means DefaultMaxBuffered.
	MaxBuffered int
	// AttemptTimeout bounds one publish. 0 means DefaultAttemptTimeout.
	AttemptTimeout time.Duration
	// RetryEvery is the first pause after a failed publish; it doubles up to MaxRetry.
	// 0 means DefaultRetryEvery and DefaultMaxRetry.
	RetryEvery, MaxRetry time.Duration
	// MaxWait bounds how long Append waits for a stream that does not answer, whatever its context allows:
	// then the callers in the batch in doubt get ErrOutcomeUnknown, those behind it ErrUnavailable.
	// One attempt may come on top. 0 means DefaultMaxWait.
	MaxWait time.Duration
	// Patience is for how long, from when the stream was first without a leader (journal.ErrNoLeader), callers wait until
	// there is one. What is frozen meanwhile may yet be stored: whoever gives up waiting for it gets ErrOutcomeUnknown.
	// 0 means that they are told at once. It should not be longer than MaxWait.
	Patience time.Duration
	// KeepBatches and KeepBytes bound what Recent remembers. 0 means DefaultKeepBatches and
	// DefaultKeepBytes; a negative KeepBatches means that nothing is remembered.
	KeepBatches, KeepBytes int

	Logger zerolog.Logger
	// Observer may be nil.
	Observer Observer
}

// Observer hears what a metrics adapter counts. Its methods are called with the committer's lock held or on
// its goroutine: they must be quick and must not call the committer.
type Observer interface {
	// BatchCommitted is called once for each batch: its events, its size in bytes as stored, and the time
	// from freezing it until it was known to be durable.
	BatchCommitted(events, bytes int, took time.Duration)
	// AttemptFailed is called for every publish that did not store the batch, or left it in doubt.
	AttemptFailed(err error)
	// AccessesDropped counts posted events that will never be stored: superseded ones, for whose session a
	// newer access is buffered, and lost ones.
	AccessesDropped(superseded, lost int)
	// ReachableChanged tells whether the stream answers.
	ReachableChanged(reachable bool)
}

type nopObserver struct{}

func (nopObserver) BatchCommitted(int, int, time.Duration) {}
func (nopObserver) AttemptFailed(error)                    {}
func (nopObserver) AccessesDropped(int, int)               {}
func (nopObserver) ReachableChanged(bool)                  {}

func (o *Options) fill() error {
	switch {
	case o.Port == nil:
		return errors.New("commit: no port")
	case o.Encoder == nil:
		return errors.New("commit: no encoder")
	case o.Journal == journal.ID{}:
		return errors.New("commit: no journal ID")
	case o.Writer == journal.WriterID{}:
		return errors.New("commit: no writer ID")
	case o.MaxBuffered < 0, o.AttemptTimeout < 0, o.RetryEvery < 0, o.MaxRetry < 0, o.MaxWait < 0, o.Patience < 0, o.KeepBytes < 0:
		return errors.New("commit: negative limit")
	}
	setDefault(&o.Linger, DefaultLinger)
	setDefault(&o.MaxBuffered, DefaultMaxBuffered)
	setDefault(&o.AttemptTimeout, DefaultAttemptTimeout)
	setDefault(&o.RetryEvery, DefaultRetryEvery)
	setDefault(&o.MaxRetry, max(DefaultMaxRetry, o.RetryEvery))
	setDefault(&o.MaxWait, DefaultMaxWait)
	setDefault(&o.KeepBatches, DefaultKeepBatches)
	setDefault(&o.KeepBytes, DefaultKeepBytes)
	o.Linger = max(o.Linger, 0)
	if o.Observer == nil {
		o.Observer = nopObserver{}
	}
	return nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}
