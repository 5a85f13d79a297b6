package jetstream_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

func TestFolderIsLocked(t *testing.T) {
	e := start(t, t.TempDir())
	_, err := jetstream.StartServer(jetstream.ServerOptions{Dir: e.dir})
	if !errors.Is(err, jetstream.ErrLocked) {
		t.Fatalf("a second server: %v", err)
	}
	for _, part := range []string{e.dir, "process " + strconv.Itoa(os.Getpid())} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	e.stop()
	e.stop()
	start(t, e.dir)
}

func TestServerThatCannotStart(t *testing.T) {
	if _, err := jetstream.StartServer(jetstream.ServerOptions{}); err == nil {
		t.Error("started without a folder")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "jetstream"), []byte("a file where the store should be"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := jetstream.StartServer(jetstream.ServerOptions{Dir: dir}); err == nil {
		t.Fatal("started on a file")
	}
	if err := os.Remove(filepath.Join(dir, "jetstream")); err != nil {
		t.Fatal(err)
	}
	start(t, dir) // the lock was given back
}

func TestServerLogs(t *testing.T) {
	var out bytes.Buffer
	s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: t.TempDir(), Logger: zerolog.New(&out)})
	if err != nil {
		t.Fatal(err)
	}
	s.Shutdown()
	if !strings.Contains(out.String(), "Starting JetStream") {
		t.Errorf("logged %q", out.String())
	}
}

func TestOpenNeedsAJournal(t *testing.T) {
	e := start(t, t.TempDir())
	other := jetstream.Options{Prefix: "other"}
	if _, err := jetstream.Open(t.Context(), e.nc, other); !errors.Is(err, jetstream.ErrNoJournal) {
		t.Errorf("nothing there: %v", err)
	}
	other.Create = true
	j, err := jetstream.Open(t.Context(), e.nc, other)
	if err != nil || j.ID() == e.ID() {
		t.Fatalf("created: %v", err)
	}
	other.Create = false
	if again, err := jetstream.Open(t.Context(), e.nc, other); err != nil || again.ID() != j.ID() {
		t.Errorf("opened again: %v", err)
	}
	for _, bad := range []jetstream.Options{{Prefix: "a.b"}, {Prefix: "a b"}, {Prefix: ">"}, {Replicas: -1}} {
		if _, err := jetstream.Open(t.Context(), e.nc, bad); err == nil {
			t.Errorf("opened %+v", bad)
		}
	}
}

// Where a part of a used journal is left, nothing is made anew; where its making was interrupted, it is.
func TestOpenHalfAJournal(t *testing.T) {
	use := func(t *testing.T, e *embedded) {
		t.Helper()
		if err := e.Keys().Create(t.Context(), seal.KeyName{Key: "k", Wrap: "w"}, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Publish(t.Context(), journal.NewWriterID(), 0, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		gone string
		used bool
		want error
	}{
		{"DORMOUSE_BATCHES", true, jetstream.ErrNoJournal},
		{"DORMOUSE_KEYS", true, jetstream.ErrNoJournal},
		{"DORMOUSE_BATCHES", false, nil},
		{"DORMOUSE_KEYS", false, nil},
	} {
		t.Run(c.gone+" used="+strconv.FormatBool(c.used), func(t *testing.T) {
			e := start(t, t.TempDir())
			if c.used {
				use(t, e)
			}
			client, err := js.New(e.nc)
			if err != nil {
				t.Fatal(err)
			}
			if err := client.DeleteStream(t.Context(), c.gone); err != nil {
				t.Fatal(err)
			}
			if _, err := jetstream.Open(t.Context(), e.nc, jetstream.Options{}); !errors.Is(err, jetstream.ErrNoJournal) {
				t.Errorf("opened: %v", err)
			}
			j, err := jetstream.Open(t.Context(), e.nc, jetstream.Options{Create: true})
			if !errors.Is(err, c.want) || err == nil && j.ID() != e.ID() {
				t.Errorf("created: %v", err)
			}
		})
	}
}

func TestOpenRefusesOtherStreams(t *testing.T) {
	e := start(t, t.TempDir())
	client, err := js.New(e.nc)
	if err != nil {
		t.Fatal(err)
	}
	for setting, change := range map[string]func(*js.StreamConfig){
		"max_age":              func(c *js.StreamConfig) { c.MaxAge = 1e12 },
		"max_msgs":             func(c *js.StreamConfig) { c.MaxMsgs = 1000 },
		"max_bytes":            func(c *js.StreamConfig) { c.MaxBytes = 1 << 30 },
		"max_msgs_per_subject": func(c *js.StreamConfig) { c.MaxMsgsPerSubject = 1 },
		"max_msg_size":         func(c *js.StreamConfig) { c.MaxMsgSize = 1000 },
		"allow_direct":         func(c *js.StreamConfig) { c.AllowDirect = true },
		"subjects":             func(c *js.StreamConfig) { c.Subjects = []string{"dormouse.batch.>"} },
		"metadata":             func(c *js.StreamConfig) { c.Metadata[" dormouse-journal"] = ""; delete(c.Metadata, "dormouse-journal") },
	} {
		t.Run(setting, func(t *testing.T) {
			s, err := client.Stream(t.Context(), "DORMOUSE_BATCHES")
			if err != nil {
				t.Fatal(err)
			}
			before := s.CachedInfo().Config
			changed := before
			changed.Metadata = map[string]string{"dormouse-journal": e.ID().String()}
			change(&changed)
			if _, err := client.UpdateStream(t.Context(), changed); err != nil {
				t.Fatal(err)
			}
			_, err = jetstream.Open(t.Context(), e.nc, jetstream.Options{Create: true})
			if !errors.Is(err, jetstream.ErrWrongStream) || !strings.Contains(err.Error(), setting) {
				t.Errorf("opened: %v", err)
			}
			if _, err := client.UpdateStream(t.Context(), before); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestOpenAtOnceMakesOneJournal(t *testing.T) {
	s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	var wg sync.WaitGroup
	ids := make([]journal.ID, 8)
	for i := range ids {
		wg.Go(func() {
			nc, err := s.Connect()
			if err != nil {
				t.Error(err)
				return
			}
			defer nc.Close()
			j, err := jetstream.Open(t.Context(), nc, jetstream.Options{Create: true})
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = j.ID()
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("journals %v", ids)
		}
	}
}

func TestKeysRefuseBadNames(t *testing.T) {
	e := start(t, t.TempDir())
	for _, bad := range []journal.KeyID{"", "a.b", "*", ">", "a b", "ä"} {
		for _, name := range []seal.KeyName{{Key: bad, Wrap: "w"}, {Key: "k", Wrap: bad}} {
			if err := e.Keys().Create(t.Context(), name, []byte("x")); !errors.Is(err, journal.ErrMalformed) {
				t.Errorf("create %+v: %v", name, err)
			}
			if err := e.Keys().Delete(t.Context(), name); !errors.Is(err, journal.ErrMalformed) {
				t.Errorf("delete %+v: %v", name, err)
			}
		}
	}
}

// A deleted key's bytes are nowhere in the folder, not even while the server runs.
func TestDeletedKeysAreOverwritten(t *testing.T) {
	e := start(t, t.TempDir())
	canary := []byte("wrapped-key-canary-0123456789")
	name := seal.KeyName{Tenant: journal.TenantID{1}, Key: "k", Wrap: "w"}
	if err := e.Keys().Create(t.Context(), name, canary); err != nil {
		t.Fatal(err)
	}
	if n := filesWith(t, e.dir, canary); n == 0 {
		t.Fatal("the key was never there: this test sees nothing")
	}
	if err := e.Keys().Delete(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if n := filesWith(t, e.dir, canary); n != 0 {
		t.Errorf("the key is still in %d files", n)
	}
}

func filesWith(t *testing.T, dir string, canary []byte) (n int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil && bytes.Contains(data, canary) {
			n++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestClosedConnection(t *testing.T) {
	e := start(t, t.TempDir())
	ctx := t.Context()
	reading := make(chan error, 1)
	begun := make(chan struct{})
	if _, err := e.Publish(ctx, journal.NewWriterID(), 0, []byte("x")); err != nil {
		t.Fatal(err)
	}
	go func() {
		reading <- e.Read(ctx, 0, func(journal.Message) error { close(begun); return nil })
	}()
	<-begun
	e.nc.Close()
	if err := <-reading; !errors.Is(err, journal.ErrClosed) {
		t.Errorf("read: %v", err)
	}
	if _, err := e.Publish(ctx, journal.NewWriterID(), 0, []byte("x")); !errors.Is(err, journal.ErrUnavailable) {
		t.Errorf("publish: %v", err)
	}
	if _, err := e.Bounds(ctx); !errors.Is(err, journal.ErrUnavailable) {
		t.Errorf("bounds: %v", err)
	}
	if _, err := e.Last(ctx, journal.WriterID{}); !errors.Is(err, journal.ErrUnavailable) {
		t.Errorf("last: %v", err)
	}
	if _, err := e.Keys().Load(ctx, journal.TenantID{}); !errors.Is(err, journal.ErrUnavailable) {
		t.Errorf("load: %v", err)
	}
}

func TestConnectToNothing(t *testing.T) {
	if nc, err := jetstream.Connect("nats://127.0.0.1:1", jetstream.ConnectOptions{}); err == nil {
		nc.Close()
		t.Error("connected to nothing")
	} else if !errors.Is(err, nats.ErrNoServers) {
		t.Error(err)
	}
}
