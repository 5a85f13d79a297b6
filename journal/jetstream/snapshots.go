package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Snapshots keeps snapshots in a stream of their own. It implements snapshot.Store. Safe for concurrent use.
//
// A snapshot has two subjects, one for its chunks and one for its manifest: a thousand chunks need no thousand
// subjects.
type Snapshots struct {
	j      *Journal
	stream js.Stream
	part   int // bytes in a message
}

const (
	// headerPart is that of a message: which part of which chunk it is, as NUMBER/PART/PARTS, each from 1 on.
	headerPart = "Dormouse-Part"

	// A chunk that does not fit into a message is stored in parts. Each message costs an fsync: they are as large
	// as a server takes them that nobody told otherwise (1 MiB, headers included), and no smaller than a batch.
	minPart = journal.MaxBatchBytes
	maxPart = 1<<20 - partRest
	// partRest is left for headers.
	partRest = 16 << 10

	chunkReadings = 3
)

// OpenSnapshots opens the journal's stream of snapshots. If there is none it makes it, or, unless create is set,
// returns journal.ErrNoMessage: there never were any. Errors: those of Open.
func (j *Journal) OpenSnapshots(ctx context.Context, replicas int, create bool) (*Snapshots, error) {
	want := j.snapshotConfig(Options{Replicas: max(replicas, 1)})
	f, err := j.lookUp(ctx, want)
	switch {
	case err != nil:
		return nil, err
	case f == nil && !create:
		return nil, fmt.Errorf("snapshots: %w", journal.ErrNoMessage)
	case f == nil:
		b, err := j.Bounds(ctx)
		if err != nil {
			return nil, err
		}
		// Over what may be left of its files. Nothing is ever trimmed without a snapshot.
		if err := j.renew(ctx, want, j.id, b.First > 1); err != nil && !hasCode(err, js.JSErrCodeStreamNameInUse) {
			return nil, err
		}
		if f, err = j.lookUp(ctx, want); err != nil {
			return nil, err
		}
		if f == nil {
			return nil, fmt.Errorf("%w: stream %s was taken away again", journal.ErrUnavailable, want.Name)
		}
	}
	if f.id != j.id {
		return nil, fmt.Errorf("%w: %s is of journal %v, not of %v", ErrWrongStream, want.Name, f.id, j.id)
	}
	return &Snapshots{j: j, stream: f.stream, part: partOf(j.nc.MaxPayload(), int64(f.stream.CachedInfo().Config.MaxMsgSize))}, nil
}

// partOf returns how much of a chunk goes into one message.
func partOf(maxPayload, maxMessage int64) int {
	if maxMessage > 0 {
		maxPayload = min(maxPayload, maxMessage)
	}
	return int(min(maxPart, max(minPart, maxPayload-partRest)))
}

func (j *Journal) snapshotConfig(o Options) js.StreamConfig {
	return j.config("SNAPSHOTS", "Dormouse: snapshots of the folded state", j.prefix+".snap.*.*", o)
}

func (s *Snapshots) root(id journal.SnapshotID) string { return s.j.prefix + ".snap." + id.String() }

func (s *Snapshots) chunks(id journal.SnapshotID) string   { return s.root(id) + ".chunks" }
func (s *Snapshots) manifest(id journal.SnapshotID) string { return s.root(id) + ".manifest" }

// PutChunk stores a chunk. See snapshot.Store.
func (s *Snapshots) PutChunk(ctx context.Context, id journal.SnapshotID, number int, data []byte) error {
	parts := max(1, (len(data)+s.part-1)/s.part)
	for i := range parts {
		part := data[i*s.part : min((i+1)*s.part, len(data))]
		if err := s.put(ctx, s.chunks(id), fmt.Sprintf("%d/%d/%d", number, i+1, parts), part); err != nil {
			return fmt.Errorf("chunk %d: %w", number, err)
		}
	}
	return nil
}

// PutManifest makes the snapshot complete.
func (s *Snapshots) PutManifest(ctx context.Context, id journal.SnapshotID, data []byte) error {
	return s.put(ctx, s.manifest(id), "1/1/1", data)
}

func (s *Snapshots) put(ctx context.Context, subject, part string, data []byte) error {
	if err := s.j.guard.Admit(len(data) + DefaultMinFree); err != nil { // appends come first
		return unavailable("store snapshot", err)
	}
	connected, release := s.j.whileConnected(ctx)
	defer release()
	m := &nats.Msg{Subject: subject, Header: nats.Header{headerPart: {part}}, Data: data}
	if _, err := s.j.js.PublishMsg(connected, m, js.WithRetryAttempts(0)); err != nil {
		return publishError(connected, err)
	}
	return nil
}

// Snapshots lists what is stored, by the word of the stream's leader.
func (s *Snapshots) Snapshots(ctx context.Context) ([]journal.StoredSnapshot, error) {
	connected, release := s.j.whileConnected(ctx)
	defer release()
	info, _, err := askInfo(connected, s.stream, js.WithSubjectFilter(s.j.prefix+".snap.*.*"))
	if err != nil {
		return nil, askError(connected, "list snapshots", err)
	}
	var list []journal.StoredSnapshot
	for subject := range info.State.Subjects {
		id, what, ok := s.parse(subject)
		_, complete := info.State.Subjects[s.manifest(id)]
		if !ok || complete != (what == "manifest") {
			continue
		}
		m, err := s.stream.GetLastMsgForSubject(connected, subject)
		if errors.Is(err, js.ErrMsgNotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, askError(connected, "list snapshots", err)
		}
		x := journal.StoredSnapshot{ID: id, Stored: journal.InstantOf(m.Time)}
		if complete {
			x.Manifest = m.Data
		}
		list = append(list, x)
	}
	return list, nil
}

func (s *Snapshots) parse(subject string) (id journal.SnapshotID, what string, ok bool) {
	name, what, ok := strings.Cut(strings.TrimPrefix(subject, s.j.prefix+".snap."), ".")
	id, err := journal.ParseSnapshotID(name)
	return id, what, ok && err == nil
}

// Delete removes the manifest first: what is left, if it is interrupted, is then an incomplete snapshot.
func (s *Snapshots) Delete(ctx context.Context, id journal.SnapshotID) error {
	connected, release := s.j.whileConnected(ctx)
	defer release()
	for _, subject := range []string{s.manifest(id), s.chunks(id)} {
		if err := s.stream.Purge(connected, js.WithPurgeSubject(subject)); err != nil {
			return askError(connected, "delete snapshot", err)
		}
	}
	return nil
}

// Chunks calls fn with the snapshot's chunks as they are stored. See snapshot.Store.
func (s *Snapshots) Chunks(ctx context.Context, id journal.SnapshotID, fn func(data []byte) error) error {
	var err error
	for range chunkReadings {
		if err = s.read(ctx, id, fn); !errors.Is(err, errBroken) {
			return err
		}
		if sleep(ctx, minBackoff) != nil {
			return context.Cause(ctx)
		}
	}
	return unavailable("read snapshot", err)
}

// read reads all chunks once.
func (s *Snapshots) read(ctx context.Context, id journal.SnapshotID, fn func(data []byte) error) error {
	info, _, err := askInfo(ctx, s.stream, js.WithSubjectFilter(s.chunks(id)))
	if err != nil {
		return askError(ctx, "read snapshot", err)
	}
	if info.State.Subjects[s.chunks(id)] == 0 {
		return nil
	}
	consumer, err := s.stream.OrderedConsumer(ctx, js.OrderedConsumerConfig{
		FilterSubjects: []string{s.chunks(id)}, DeliverPolicy: js.DeliverAllPolicy, InactiveThreshold: inactiveThreshold,
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	r := &chunkReader{fn: fn, end: make(chan error, 1)}
	broken := make(chan error, 1)
	sub, err := consumer.Consume(r.handle, js.PullMaxBytes(pullBytes), js.PullHeartbeat(2*heartbeat),
		js.ConsumeErrHandler(func(_ js.ConsumeContext, err error) {
			select {
			case broken <- err:
			default:
			}
		}))
	if err != nil {
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	err = s.await(ctx, r, s.chunks(id), broken)
	sub.Stop()
	return r.stop(err)
}

// await waits for the end of a read. The server delivers no message that is damaged, and if it was the last one, says
// nothing more: where it has none behind what was read, that is all there is.
func (s *Snapshots) await(ctx context.Context, r *chunkReader, subject string, broken <-chan error) error {
	ticker := time.NewTicker(stuckAfter)
	defer ticker.Stop()
	var before journal.Seq
	var lost journal.Doubt
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-r.end:
			r.end <- err
			return err
		case err := <-broken:
			return fmt.Errorf("%w: %w", errBroken, err)
		case <-ticker.C:
		}
		now, idle := r.position()
		switch {
		case !idle || now != before || !s.missing(ctx, subject, now):
			before = now
			lost.Settle()
		case lost.Ripe(time.Now(), max(s.j.Patience(), stuckAfter)):
			return nil
		}
	}
}

// missing reports whether the stream's leader has no message of a subject behind after.
func (s *Snapshots) missing(ctx context.Context, subject string, after journal.Seq) bool {
	ctx, cancel := context.WithTimeout(ctx, shorterPatience)
	defer cancel()
	_, err := s.stream.GetMsg(ctx, uint64(after)+1, js.WithGetMsgSubject(subject))
	return errors.Is(err, js.ErrMsgNotFound)
}
