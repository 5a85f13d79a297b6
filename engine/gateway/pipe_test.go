package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
)

// serve runs a handler behind a pipe as serverConn does.
func serve(ctx context.Context, h http.HandlerFunc) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost", strings.NewReader("{}"))
	if err != nil {
		return nil, err
	}
	return (&serverConn{handler: h}).RoundTrip(r)
}

func TestPipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		resp, err := serve(t.Context(), func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			w.Header().Set("A", "1")
			w.WriteHeader(http.StatusTeapot)
			w.Header().Set("A", "too late")
			_, _ = w.Write(body)
		})
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if resp.StatusCode != http.StatusTeapot || resp.Header.Get("A") != "1" || string(body) != "{}" || err != nil {
			t.Error(resp, body, err)
		}
	})
}

func TestPipeStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		more := make(chan string)
		resp, err := serve(t.Context(), func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			for s := range more {
				_, _ = io.WriteString(w, s)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		room := make([]byte, 10)
		for _, s := range []string{"one", "two"} {
			more <- s
			if n, err := resp.Body.Read(room); string(room[:n]) != s || err != nil {
				t.Errorf("%q %v", room[:n], err)
			}
		}
		close(more)
		if _, err := resp.Body.Read(room); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	})
}

// A reader that is slow holds the handler up; one that goes away ends it.
func TestPipeHoldsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		written, ended := 0, false
		resp, err := serve(t.Context(), func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(bytes.Repeat([]byte("x"), 100_000)); err != nil {
					break
				}
				written += 100_000
			}
			ended = true
		})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if written > 2*maxPiped || written < maxPiped || ended {
			t.Errorf("%d bytes ahead of the reader", written)
		}
		_ = resp.Body.Close()
		synctest.Wait()
		if !ended {
			t.Error("the handler goes on")
		}
	})
}

func TestPipeEndsWithTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("enough")
		for _, flushed := range []bool{false, true} {
			ctx, cancel := context.WithCancelCause(t.Context())
			go func() {
				synctest.Wait()
				cancel(cause)
			}()
			resp, err := serve(ctx, func(w http.ResponseWriter, r *http.Request) {
				if flushed {
					w.WriteHeader(http.StatusOK)
				}
				<-r.Context().Done()
			})
			if flushed && err == nil {
				_, err = resp.Body.Read(make([]byte, 1))
				_ = resp.Body.Close()
			}
			if err == nil || !flushed && !errors.Is(err, cause) {
				t.Errorf("flushed %v: %v", flushed, err)
			}
			synctest.Wait()
		}
	})
}

func TestPipeSurvivesAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		resp, err := serve(t.Context(), func(http.ResponseWriter, *http.Request) { panic("no") })
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.ReadAll(resp.Body); resp.StatusCode != http.StatusInternalServerError || err == nil {
			t.Error(resp.StatusCode, err)
		}
	})
}
