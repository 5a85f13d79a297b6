package jetstream

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/journal"
)

const (
	metaJournal = "dormouse-journal" // in a stream's metadata: the journal's ID

	// The server reads every message younger than this when it starts; writers need no such window.
	duplicatesWindow = 30 * time.Second

	// An election takes seconds.
	readyTimeout = 15 * time.Second

	// A batch, its header and the message's own headers.
	minPayload = journal.MaxBatchBytes + 64<<10
)

// Options configures a journal. The zero value opens the existing journal "dormouse".
type Options struct {
	// Prefix is that of the subjects; in upper case it is that of the streams' names. Letters, digits, '-'
	// and '_'. Empty means "dormouse".
	Prefix string
	// Replicas of the streams, when they are made. 0 means 1.
	Replicas int
	// Create makes the journal if nothing of it is there.
	Create bool
	// Guard of an embedded server is that *Server. Nil means none.
	Guard Guard
	// Logger gets what happens to readers.
	Logger zerolog.Logger
}

// Guard knows the disk under the streams. Both methods are asked often and answer at once.
type Guard interface {
	// Admit says why n more bytes cannot be stored now; nil if they can.
	Admit(n int) error
	// Trust says why the newest message may not be on disk although the server shows it; nil if it is.
	Trust() error
}

// unguarded is the guard of a journal on somebody else's disks.
type unguarded struct{}

func (unguarded) Admit(int) error { return nil }
func (unguarded) Trust() error    { return nil }

// DefaultPrefix is what the names of streams and subjects begin with if Options.Prefix is empty.
const DefaultPrefix = "dormouse"

var prefixForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func (o *Options) fill() error {
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	if !prefixForm.MatchString(o.Prefix) {
		return fmt.Errorf("journal prefix %q: %w: letters, digits, '-' and '_' only", o.Prefix, journal.ErrMalformed)
	}
	if o.Replicas < 0 || o.Replicas > 5 {
		return fmt.Errorf("jetstream: %d replicas", o.Replicas)
	}
	o.Replicas = max(o.Replicas, 1)
	if o.Guard == nil {
		o.Guard = unguarded{}
	}
	return nil
}

// Journal is a journal in JetStream. It implements commit.Port and replay.Source. Safe for concurrent use.
type Journal struct {
	nc      *nats.Conn
	js      js.JetStream
	batches js.Stream
	keys    js.Stream
	id      journal.ID
	prefix  string
	wanted  int // replicas
	guard   Guard
	log     zerolog.Logger
	waiting waiting
	clock   clock
	solo    solo
}

// Open opens the journal that nc reaches. nc should come from [Connect] or [Server.Connect]; it stays the
// caller's, and must outlive the journal.
//
// Errors: ErrNoJournal, ErrWrongStream, journal.ErrUnavailable, the cause of ctx.
func Open(ctx context.Context, nc *nats.Conn, o Options) (*Journal, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	if nc.MaxPayload() < minPayload {
		return nil, fmt.Errorf("%w: the server's max_payload is %d, a journal needs %d", ErrWrongStream, nc.MaxPayload(), minPayload)
	}
	client, err := js.New(nc)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j := &Journal{nc: nc, js: client, prefix: o.Prefix, wanted: o.Replicas, guard: o.Guard, log: o.Logger}
	go j.waiting.watch(nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)) // until nc is closed
	if err := j.open(ctx, o); err != nil {
		return nil, err
	}
	return j, nil
}

// Batches returns the name of the stream of batches.
func (j *Journal) Batches() string { return strings.ToUpper(j.prefix) + "_BATCHES" }

// ID names the journal.
func (j *Journal) ID() journal.ID { return j.id }

// open looks at what is there of the two streams, makes what may be made, and compares.
func (j *Journal) open(ctx context.Context, o Options) error {
	batches, keys, err := j.lookUpBoth(ctx, o)
	if err == nil && (batches == nil) != (keys == nil) {
		batches, keys, err = j.lookUpBoth(ctx, o) // perhaps they were being made
	}
	if err != nil {
		return err
	}
	if err := mayCreate(batches, keys, o); err != nil {
		return err
	}
	if batches == nil {
		if err := j.refuseLeft(ctx, o); err != nil {
			return err
		}
	}
	made := batches == nil || keys == nil
	id := journal.NewID()
	if keys == nil && batches != nil {
		id = batches.id
	}
	// Keys first: a journal whose making was interrupted is then one without batches and without keys.
	if keys, err = j.ensure(ctx, keys, j.keyConfig(o), id); err != nil {
		return err
	}
	if batches, err = j.ensure(ctx, batches, j.batchConfig(o), keys.id); err != nil {
		return err
	}
	if batches.id != keys.id {
		return fmt.Errorf("%w: %s is of journal %v, %s of journal %v", ErrWrongStream,
			batches.name(), batches.id, keys.name(), keys.id)
	}
	j.batches, j.keys, j.id = batches.stream, keys.stream, batches.id
	j.solo.off = batches.stream.CachedInfo().Config.Replicas > 1
	if !made { // who only reads need not have the right to publish
		return nil
	}
	return j.awaitStreams(ctx)
}

// awaitStreams waits until both streams take messages: on a cluster a new stream has no leader at first,
// or not every server knows yet that it listens.
func (j *Journal) awaitStreams(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for _, subject := range []string{j.subject(journal.WriterID{}), j.prefix + ".keys.none"} {
		for {
			// Nothing ever has this sequence, so nothing is stored.
			_, err := j.publish(ctx, subject, math.MaxUint64, nil)
			if errors.Is(err, journal.ErrConflict) {
				break
			}
			if sleep(ctx, 20*time.Millisecond) != nil {
				return unavailable("open journal", err)
			}
		}
	}
	return nil
}

func (j *Journal) lookUpBoth(ctx context.Context, o Options) (batches, keys *found, err error) {
	if batches, err = j.lookUp(ctx, j.batchConfig(o)); err != nil {
		return nil, nil, err
	}
	keys, err = j.lookUp(ctx, j.keyConfig(o))
	return batches, keys, err
}

// mayCreate refuses to make what is missing where a part of a used journal is left.
func mayCreate(batches, keys *found, o Options) error {
	name := strings.ToUpper(o.Prefix)
	switch {
	case batches != nil && keys != nil:
		return nil
	case batches == nil && keys != nil && keys.used:
		return fmt.Errorf("%w: the stream %s_BATCHES is gone, but its keys are there", ErrNoJournal, name)
	case keys == nil && batches != nil && batches.used:
		return fmt.Errorf("%w: the stream %s_KEYS is gone, but its batches are there", ErrNoJournal, name)
	case !o.Create:
		return fmt.Errorf("%w: there is no stream %s_BATCHES", ErrNoJournal, name)
	default:
		return nil
	}
}

// refuseLeft refuses to make a journal where snapshots of another one are left.
func (j *Journal) refuseLeft(ctx context.Context, o Options) error {
	s, err := j.lookUp(ctx, j.snapshotConfig(o))
	switch {
	case err != nil:
		return err
	case s != nil && s.used:
		return fmt.Errorf("%w: the stream %s_BATCHES is gone, but snapshots are there", ErrNoJournal, strings.ToUpper(o.Prefix))
	default:
		return nil
	}
}

func (j *Journal) batchConfig(o Options) js.StreamConfig {
	return j.config("BATCHES", "Dormouse: batches of session events", j.prefix+".batch.*", o)
}

func (j *Journal) keyConfig(o Options) js.StreamConfig {
	return j.config("KEYS", "Dormouse: wrapped tenant keys", j.prefix+".keys.>", o)
}

func (j *Journal) config(name, description, subject string, o Options) js.StreamConfig {
	return js.StreamConfig{
		Name:        strings.ToUpper(j.prefix) + "_" + name,
		Description: description,
		Subjects:    []string{subject},
		Retention:   js.LimitsPolicy,
		Storage:     js.FileStorage,
		Discard:     js.DiscardNew,
		Replicas:    o.Replicas,
		Duplicates:  duplicatesWindow,
		MaxMsgs:     -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxMsgSize: -1, MaxConsumers: -1,
	}
}

// found is a stream that is there.
type found struct {
	stream js.Stream
	id     journal.ID
	used   bool // it holds messages, or did
}

func (f *found) name() string { return f.stream.CachedInfo().Config.Name }

// lookUp returns the stream that want names, checked, or nil if there is none.
func (j *Journal) lookUp(ctx context.Context, want js.StreamConfig) (*found, error) {
	s, err := j.js.Stream(ctx, want.Name)
	if errors.Is(err, js.ErrStreamNotFound) {
		return nil, nil //nolint:nilnil // nil is an answer here
	}
	if err != nil {
		return nil, askError(ctx, "open stream "+want.Name, err)
	}
	return checked(s, want)
}

func checked(s js.Stream, want js.StreamConfig) (*found, error) {
	info := s.CachedInfo()
	if err := checkConfig(info.Config, want); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrWrongStream, want.Name, err)
	}
	id, err := journal.ParseID(info.Config.Metadata[metaJournal])
	if err != nil {
		return nil, fmt.Errorf("%w: %s: metadata %s: %w", ErrWrongStream, want.Name, metaJournal, err)
	}
	return &found{stream: s, id: id, used: info.State.LastSeq > 0}, nil
}

// ensure returns f, or makes the stream if f is nil. Where two replicas make it at once, one of them wins.
func (j *Journal) ensure(ctx context.Context, f *found, want js.StreamConfig, id journal.ID) (*found, error) {
	if f != nil {
		return f, nil
	}
	want.Metadata = map[string]string{metaJournal: id.String()}
	s, err := j.create(ctx, want)
	if errors.Is(err, js.ErrStreamNameAlreadyInUse) {
		s, err = j.appear(ctx, want.Name)
	}
	if err != nil {
		return nil, askError(ctx, "create stream "+want.Name, err)
	}
	return checked(s, want)
}

// checkConfig compares what matters to a journal: nothing may remove, change or lose messages but
// Dormouse itself, and reads go to the leader.
func checkConfig(got, want js.StreamConfig) error {
	for _, c := range []struct {
		setting string
		ok      bool
	}{
		{"subjects", len(got.Subjects) == 1 && got.Subjects[0] == want.Subjects[0]},
		{"retention", got.Retention == want.Retention},
		{"storage", got.Storage == want.Storage},
		{"max_msgs", got.MaxMsgs <= 0},
		{"max_bytes", got.MaxBytes <= 0},
		{"max_age", got.MaxAge == 0},
		{"max_msgs_per_subject", got.MaxMsgsPerSubject <= 0},
		{"max_msg_size", got.MaxMsgSize <= 0 || got.MaxMsgSize >= minPayload},
		{"no_ack", !got.NoAck},
		{"allow_direct", !got.AllowDirect},
		{"allow_rollup_hdrs", !got.AllowRollup},
		{"allow_msg_ttl", !got.AllowMsgTTL},
		{"persist_mode", got.PersistMode == js.DefaultPersistMode},
		{"mirror", got.Mirror == nil},
		{"sources", len(got.Sources) == 0},
		{"subject_transform", got.SubjectTransform == nil},
		{"republish", got.RePublish == nil},
		{"sealed", !got.Sealed},
	} {
		if !c.ok {
			return fmt.Errorf("its setting %s is not that of a journal", c.setting)
		}
	}
	return nil
}
