package gateway

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
)

// The standard knows three ends of a line. They mean the same, however the bytes arrive.
func TestEventLineEnds(t *testing.T) {
	const stream = ": hello\n\nid: 7\nevent: message\ndata: {\"a\":\ndata: 1}\nretry: 5\n\ndata:x\n\nid:\n\ndata: last\n\n"
	read := func(r io.Reader) (got []string) {
		er := new(readers).get(r, 1<<20)
		for {
			ev, err := er.next()
			if errors.Is(err, io.EOF) {
				return got
			}
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(strings.ReplaceAll(string(ev.raw), "\r\n", "\n"), "\r") {
				t.Errorf("a lone CR is passed on: %q", ev.raw)
			}
			got = append(got, string(ev.id)+"|"+string(ev.name)+"|"+string(ev.retr)+"|"+string(ev.data))
		}
	}
	want := strings.Join(read(strings.NewReader(stream)), "\n")
	for _, end := range []string{"\n", "\r\n", "\r"} {
		s := strings.ReplaceAll(stream, "\n", end)
		for name, r := range map[string]io.Reader{
			"at once": strings.NewReader(s), "by bytes": iotest.OneByteReader(strings.NewReader(s)), "by halves": iotest.HalfReader(strings.NewReader(s)),
		} {
			if got := strings.Join(read(r), "\n"); got != want {
				t.Errorf("%q %s:\n%s", end, name, got)
			}
		}
	}
}

// An event that a CR ends is passed on when the CR is there: what follows may take hours.
func TestEventEndsWithCR(t *testing.T) {
	r, w := io.Pipe()
	defer r.Close()
	go func() { _, _ = io.WriteString(w, "data: now\r\r") }()
	ev, err := new(readers).get(r, 1<<10).next()
	if err != nil || string(ev.data) != "now" {
		t.Errorf("%+v %v", ev, err)
	}
}

// GET streams that begin while the runtime is being closed either end before that has ended, or do not begin.
func TestListenersEndWhileOthersJoin(t *testing.T) {
	for range 200 {
		var ls listeners
		var wg sync.WaitGroup
		under := make(chan struct{}, 4)
		for range 4 {
			wg.Go(func() {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				l := &listener{cancel: cancel, done: make(chan struct{})}
				joined, err := ls.join(ctx, l)
				if !joined {
					if !errors.Is(err, errHibernated) {
						t.Error(err)
					}
					return
				}
				under <- struct{}{}
				<-under
				ls.leave(l)
			})
		}
		ls.end()
		if len(under) != 0 {
			t.Error("ended while a stream is being written")
		}
		wg.Wait()
	}
}
