package store_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	js "github.com/nats-io/nats.go/jetstream"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/audit"
)

// sessionsEach is how many sessions each of two tenants has in a store that is to be damaged.
const sessionsEach = 5

// scene is a stopped store with sessions, and an older copy of it that has half of them.
type scene struct {
	t      *testing.T
	dir    string
	older  string
	losses int // accepted so far
}

func newScene(t *testing.T) *scene {
	t.Helper()
	root := t.TempDir()
	sc := &scene{t: t, dir: filepath.Join(root, "data"), older: filepath.Join(root, "older")}
	for _, tenant := range []journal.TenantID{{1}, {2}} {
		if tenant == (journal.TenantID{2}) {
			sc.copyTo(sc.older)
		}
		s := open(t, store.Options{Dir: sc.dir, Create: true, Replica: "r1"})
		for range sessionsEach {
			begin(t, s, tenant, "tenant")
		}
		closeStore(t, s)
	}
	return sc
}

func (sc *scene) copyTo(dir string) {
	sc.t.Helper()
	if err := os.CopyFS(dir, os.DirFS(sc.dir)); err != nil {
		sc.t.Fatal(err)
	}
}

// file returns a file of a stream's folder.
func (sc *scene) file(stream, name string) string {
	sc.t.Helper()
	paths, err := filepath.Glob(filepath.Join(sc.dir, "jetstream", "*", "streams", stream, name))
	if err != nil || len(paths) == 0 {
		sc.t.Fatalf("%s of %s: %v", name, stream, err)
	}
	return paths[len(paths)-1]
}

func (sc *scene) flip(stream, name string, place float64) {
	sc.t.Helper()
	path := sc.file(stream, name)
	data, err := os.ReadFile(path)
	if err != nil {
		sc.t.Fatal(err)
	}
	data[int(place*float64(len(data)-1))] ^= 0x10
	if err := os.WriteFile(path, data, 0o600); err != nil {
		sc.t.Fatal(err)
	}
}

func (sc *scene) cut(stream, name string, place float64) {
	sc.t.Helper()
	path := sc.file(stream, name)
	info, err := os.Stat(path)
	if err == nil {
		err = os.Truncate(path, int64(place*float64(info.Size())))
	}
	if err != nil {
		sc.t.Fatal(err)
	}
}

func (sc *scene) remove(paths ...string) {
	sc.t.Helper()
	for _, path := range paths {
		if err := os.RemoveAll(filepath.Join(sc.dir, path)); err != nil {
			sc.t.Fatal(err)
		}
	}
}

// rewrite stores the stream anew, as somebody does who has its messages and knows the server, and not the keys.
func (sc *scene) rewrite(change func(all []journal.Message) []journal.Message) {
	sc.t.Helper()
	server, err := jetstream.StartServer(jetstream.ServerOptions{Dir: sc.dir})
	if err != nil {
		sc.t.Fatal(err)
	}
	defer server.Shutdown()
	nc, err := server.Connect()
	if err != nil {
		sc.t.Fatal(err)
	}
	defer nc.Close()
	j, err := jetstream.Open(sc.t.Context(), nc, jetstream.Options{})
	if err != nil {
		sc.t.Fatal(err)
	}
	bounds, err := j.Bounds(sc.t.Context())
	if err != nil {
		sc.t.Fatal(err)
	}
	var all []journal.Message
	err = j.Read(sc.t.Context(), 0, func(m journal.Message) error {
		all = append(all, m)
		if m.Seq == bounds.Last {
			return journal.ErrStop
		}
		return nil
	})
	if err != nil {
		sc.t.Fatal(err)
	}
	client, err := js.New(nc)
	if err == nil {
		err = client.DeleteStream(sc.t.Context(), "DORMOUSE_BATCHES")
	}
	if err == nil {
		_, err = jetstream.Renew(sc.t.Context(), nc, jetstream.Options{}, j.ID())
	}
	if err != nil {
		sc.t.Fatal(err)
	}
	for _, m := range change(all) {
		if _, err := client.Publish(sc.t.Context(), "dormouse.batch.raw", m.Data); err != nil {
			sc.t.Fatal(err)
		}
	}
}

// verify does what the command does on a stopped store.
func (sc *scene) verify() *audit.Report {
	sc.t.Helper()
	temp := sc.t.TempDir()
	if err := store.Copy(sc.dir, temp); err != nil {
		sc.t.Fatal(err)
	}
	s, err := store.Open(sc.t.Context(), store.Options{Dir: temp, KeyFile: filepath.Join(sc.dir, "keys"), AcceptLoss: true})
	if err != nil {
		sc.t.Fatal(err)
	}
	defer closeStore(sc.t, s)
	r, err := s.Verify(sc.t.Context(), store.VerifyOptions{})
	if err != nil {
		sc.t.Fatal(err)
	}
	return r
}

// start does what the daemon does, and returns how many sessions it has.
func (sc *scene) start(acceptLoss bool) (sessions int, err error) {
	sc.t.Helper()
	s, err := store.Open(sc.t.Context(), store.Options{Dir: sc.dir, Create: true, Replica: "r1", AcceptLoss: acceptLoss})
	if err != nil {
		return 0, err
	}
	defer closeStore(sc.t, s)
	if err := s.Restore(sc.t.Context()); err != nil {
		return 0, err
	}
	if _, err := s.ResolveOrphans(sc.t.Context()); err != nil {
		return 0, err
	}
	s.Follower.View(func(st *replay.State) { sessions = st.Len() })
	if acceptLoss {
		err = s.History(sc.t.Context(), audit.Query{Kinds: []journal.Kind{journal.KindLossAccepted}, Tolerant: true}, func(audit.Entry) error {
			sc.losses++
			return nil
		})
	}
	return sessions, err
}

func faults(r *audit.Report) string {
	var kinds []string
	for i := range r.Faults {
		kinds = append(kinds, string(r.Faults[i].Kind)+" "+r.Faults[i].Place())
	}
	return strings.Join(kinds, ", ")
}

// Whatever is done to a store's files: a start refuses or all sessions are there, verify names the places, what is
// accepted costs no session that need not be lost, and afterwards everything is whole, after a crash as well.
func TestDamage(t *testing.T) {
	t.Parallel()
	const all, blocks = 2 * sessionsEach, "msgs/*.blk"
	const batches, keys, marks = "DORMOUSE_BATCHES", "DORMOUSE_KEYS", "DORMOUSE_MARKS"
	nothing := func(*scene) {}
	for name, c := range map[string]struct {
		damage func(sc *scene)
		want   string // the faults; empty: none
		kept   int    // sessions, of 10
	}{
		"nothing":                {nothing, "", all},
		"bit of the first batch": {func(sc *scene) { sc.flip(batches, blocks, 0.05) }, "begins-late message 1", all - 1},
		"bit in the middle":      {func(sc *scene) { sc.flip(batches, blocks, 0.5) }, "missing message 6", all - 1},
		"bit of the last batch":  {func(sc *scene) { sc.flip(batches, blocks, 0.97) }, "ends-early message 10", all - 1},
		"two bits":               {func(sc *scene) { sc.flip(batches, blocks, 0.25); sc.flip(batches, blocks, 0.75) }, "missing message 3, missing message 8", all - 2},
		"block cut off":          {func(sc *scene) { sc.cut(batches, blocks, 0.45) }, "ends-early messages 5 to 10", 4},
		"block gone":             {func(sc *scene) { _ = os.Remove(sc.file(batches, blocks)) }, "begins-late messages 1 to 10", 0},
		"bit of the index":       {func(sc *scene) { sc.flip(batches, "msgs/index.db", 0.5) }, "", all},
		"index cut off":          {func(sc *scene) { sc.cut(batches, "msgs/index.db", 0.5) }, "", all},
		"index gone":             {func(sc *scene) { _ = os.Remove(sc.file(batches, "msgs/index.db")) }, "", all},
		"bit of the definition":  {func(sc *scene) { sc.flip(batches, "meta.inf", 0.5) }, "gone the store", all},
		"definition cut off":     {func(sc *scene) { sc.cut(batches, "meta.inf", 0.5) }, "gone the store", all},
		"bit of its checksum":    {func(sc *scene) { sc.flip(batches, "meta.sum", 0.5) }, "gone the store", all},
		"stream gone":            {func(sc *scene) { _ = os.RemoveAll(filepath.Dir(sc.file(batches, "meta.inf"))) }, "gone the store, ends-early messages 1 to 10", 0},
		"everything gone":        {func(sc *scene) { sc.remove("jetstream") }, "gone the store, ends-early messages 1 to 10", 0},
		"everything and the ID":  {func(sc *scene) { sc.remove("jetstream", "journal.id") }, "gone the store, ends-early messages 1 to 10", 0},
		"keys' definition":       {func(sc *scene) { sc.flip(keys, "meta.inf", 0.5) }, "gone the store", all},
		"keys gone":              {func(sc *scene) { _ = os.RemoveAll(filepath.Dir(sc.file(keys, "meta.inf"))) }, "gone the store, tenant-key the store, tenant-key the store", 0},
		"bit of a key":           {func(sc *scene) { sc.flip(keys, blocks, 0.25) }, "tenant-key the store", sessionsEach},
		"marks' definition":      {func(sc *scene) { sc.flip(marks, "meta.inf", 0.5) }, "", all},
		"marks gone":             {func(sc *scene) { _ = os.RemoveAll(filepath.Dir(sc.file(marks, "meta.inf"))) }, "", all},
		"the folder's mark":      {func(sc *scene) { sc.remove("mark") }, "", all},
		"bit of the mark": {func(sc *scene) {
			path := filepath.Join(sc.dir, "mark")
			data, err := os.ReadFile(path)
			if err != nil {
				sc.t.Fatal(err)
			}
			data[len(data)/2] ^= 1
			_ = os.WriteFile(path, data, 0o600)
		}, "", all},
		"older stream": {func(sc *scene) {
			sc.remove("jetstream")
			_ = os.CopyFS(filepath.Join(sc.dir, "jetstream"), os.DirFS(filepath.Join(sc.older, "jetstream")))
		}, "ends-early messages 6 to 10", sessionsEach},
		"older folder, newer stream of marks": {func(sc *scene) {
			newer := filepath.Dir(sc.file(marks, "meta.inf"))
			temp := filepath.Join(sc.t.TempDir(), "marks")
			_ = os.CopyFS(temp, os.DirFS(newer))
			sc.remove("jetstream", "mark", "jetstream.clean")
			_ = os.CopyFS(filepath.Join(sc.dir, "jetstream"), os.DirFS(filepath.Join(sc.older, "jetstream")))
			_ = os.RemoveAll(newer)
			_ = os.CopyFS(newer, os.DirFS(temp))
		}, "ends-early messages 6 to 10", sessionsEach},
		// This is what a backup of the whole folder is. Nothing in it can know of a later one.
		"older folder, unnoticed": {func(sc *scene) {
			sc.remove("jetstream", "mark", "journal.id", "jetstream.clean")
			_ = os.CopyFS(sc.dir, os.DirFS(sc.older))
		}, "", sessionsEach},
		"batches exchanged": {func(sc *scene) {
			sc.rewrite(func(all []journal.Message) []journal.Message {
				all[7], all[8] = all[8], all[7]
				return all
			})
		}, "changed message 8, changed message 9", all - 1},
		"batch repeated instead of another": {func(sc *scene) {
			sc.rewrite(func(all []journal.Message) []journal.Message {
				all[9] = all[8]
				return all
			})
		}, "changed message 10", all - 1},
		"batch left out": {func(sc *scene) {
			sc.rewrite(func(all []journal.Message) []journal.Message { return slices.Delete(all, 6, 7) })
		}, "changed", all - 1},
		"something else stored": {func(sc *scene) {
			sc.rewrite(func(all []journal.Message) []journal.Message {
				return append(all, journal.Message{Data: []byte("no batch")})
			})
		}, "unreadable message 11", all},
		"batch tampered with": {func(sc *scene) {
			sc.rewrite(func(all []journal.Message) []journal.Message {
				data := slices.Clone(all[3].Data)
				data[len(data)-20] ^= 1
				all[3].Data = data
				return all
			})
		}, "unreadable message 4", all - 1},
	} {
		for _, crashed := range []string{"", ", then a crash"} {
			t.Run(name+crashed, func(t *testing.T) {
				t.Parallel()
				sc := newScene(t)
				c.damage(sc)
				if crashed != "" {
					sc.remove("jetstream.clean")
				}
				sc.judge(c.want, c.kept)
			})
		}
	}
}

// judge holds a damaged store to what is expected of it.
func (sc *scene) judge(want string, kept int) {
	t := sc.t
	t.Helper()
	r := sc.verify()
	if got := faults(r); got != want && (want != "changed" || !strings.HasPrefix(got, "changed")) {
		t.Errorf("verify names %q, want %q: %s", got, want, r.Verdict)
	}
	for i := range r.Faults {
		if text := r.Verdict + r.Faults[i].String(); strings.Contains(text, "1 to 0") || strings.Contains(text, "knows no") {
			t.Error(text)
		}
	}
	n, err := sc.start(false)
	if want == "" {
		if err != nil || n != kept {
			t.Fatalf("a start gives %d sessions and %v, want %d", n, err, kept)
		}
	} else {
		if !errors.Is(err, journal.ErrDamaged) && !errors.Is(err, store.ErrOtherJournal) {
			t.Fatalf("a start gives %d sessions and %v", n, err)
		}
		if n, err = sc.start(true); err != nil || n != kept {
			t.Fatalf("accepted, there are %d sessions, want %d: %v", n, kept, err)
		}
		if sc.losses == 0 {
			t.Error("the acceptance is not journaled")
		}
	}
	for _, crash := range []bool{false, true} {
		if crash {
			sc.remove("jetstream.clean", "jetstream/$G/streams/DORMOUSE_BATCHES/msgs/index.db")
		}
		if r := sc.verify(); !r.Whole() {
			t.Errorf("afterwards, crash %v: %s: %s", crash, r.Verdict, faults(r))
		}
		if n, err := sc.start(false); err != nil || n != kept {
			t.Errorf("afterwards, crash %v: %d sessions, want %d: %v", crash, n, kept, err)
		}
	}
}

// Damage that costs no batch and no key stops a start after a crash, and so verify names it too. Damage in what was
// superseded is none.
func TestDamageBesideTheBatches(t *testing.T) {
	t.Parallel()
	sc := newScene(t)
	s := open(t, store.Options{Dir: sc.dir, Create: true, Replica: "r2"})
	begin(t, s, journal.TenantID{1}, "tenant")
	closeStore(t, s)
	path := sc.file("DORMOUSE_MARKS", "msgs/*.blk")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at   int
		want string
	}{
		{bytes.Index(data, []byte(`"replica":"r1"`)), ""},
		{bytes.LastIndex(data, []byte(`"replica":"r1"`)), "block the store"},
	} {
		data[c.at] ^= 1
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := faults(sc.verify()); got != c.want {
			t.Errorf("after a shutdown in order, verify names %q, want %q", got, c.want)
		}
		sc.remove("jetstream.clean")
		if c.want != "" {
			sc.judge(c.want, 2*sessionsEach+1)
		}
	}
}

// With the wrong keyring nothing is ever taken for damage, even if losses are accepted.
func TestWrongKeyringIsNoDamage(t *testing.T) {
	t.Parallel()
	sc, other := newScene(t), newScene(t)
	for _, accept := range []bool{false, true} {
		s, err := store.Open(t.Context(), store.Options{Dir: sc.dir, KeyFile: filepath.Join(other.dir, "keys"), Create: true, AcceptLoss: accept})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Restore(t.Context()); !errors.Is(err, journal.ErrWrongKey) || errors.Is(err, journal.ErrDamaged) {
			t.Errorf("accepting %v: %v", accept, err)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if n, err := sc.start(false); err != nil || n != 2*sessionsEach {
		t.Errorf("%d sessions, %v", n, err)
	}
}
