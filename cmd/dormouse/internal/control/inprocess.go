package control

import (
	"io"
	"net/http"
)

// handlerTransport is an http.RoundTripper that calls a handler and streams its answer.
type handlerTransport struct{ handler http.Handler }

// RoundTrip returns once the handler has written its header. The handler ends before the body's EOF.
func (t handlerTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body == nil { // what a server never gives to a handler
		req = req.Clone(req.Context())
		req.Body = http.NoBody
	}
	body, pipe := io.Pipe()
	w := &pipeWriter{pipe: pipe, header: http.Header{}, ready: make(chan struct{})}
	go func() {
		t.handler.ServeHTTP(w, req)
		w.WriteHeader(http.StatusOK)
		_ = pipe.Close()
	}()
	select {
	case <-w.ready:
	case <-req.Context().Done():
		_ = body.CloseWithError(req.Context().Err())
		return nil, req.Context().Err()
	}
	return &http.Response{
		Status: http.StatusText(w.status), StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, Body: body, ContentLength: -1, Request: req,
	}, nil
}

// pipeWriter is used by the handler's goroutine alone until ready is closed; then header, status are frozen.
type pipeWriter struct {
	pipe   *io.PipeWriter
	header http.Header
	sent   http.Header
	status int
	ready  chan struct{}
}

// Header implements http.ResponseWriter.
func (w *pipeWriter) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *pipeWriter) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	w.status, w.sent = status, w.header.Clone()
	close(w.ready)
}

func (w *pipeWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.pipe.Write(p)
}

// Flush implements http.Flusher: writes are never buffered.
func (w *pipeWriter) Flush() { w.WriteHeader(http.StatusOK) }
