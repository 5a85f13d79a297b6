package stdio

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
)

// Probe starts the command once, for no tenant, and asks it to initialize. It returns the name and the version that
// the server gives itself, and the protocol version that it speaks.
func Probe(ctx context.Context, o Options) (string, error) {
	u, err := New(o)
	if err != nil {
		return "", err
	}
	defer u.Close()
	conn, err := u.Connect(ctx, nobody{})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	const ask = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"dormouse","version":"1"}}}`
	r := (&http.Request{Method: http.MethodPost, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader([]byte(ask)))}).WithContext(ctx)
	resp, err := conn.RoundTrip(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	return introduction(body)
}

// introduction reads an answer to initialize: JSON, or events the last of which holds it.
func introduction(body []byte) (string, error) {
	if at := bytes.LastIndex(body, []byte("data: ")); at >= 0 && body[0] != '{' {
		body = body[at+len("data: "):]
	}
	var a struct {
		Result struct {
			Protocol string `json:"protocolVersion"`
			Server   struct {
				Name    string `json:"name"`
				Version string `json:"version"`
			} `json:"serverInfo"`
		} `json:"result"`
		Error *struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	switch err := json.Unmarshal(body, &a); {
	case err != nil:
		return "", fmt.Errorf("answer to initialize: %w", err)
	case a.Error != nil:
		return "", fmt.Errorf("it refuses initialize: %s", a.Error.Message)
	case a.Result.Protocol == "":
		return "", errors.New("its answer to initialize names no protocol version")
	}
	return fmt.Sprintf("%s %s, protocol %s", a.Result.Server.Name, a.Result.Server.Version, a.Result.Protocol), nil
}

// nobody is a session without a context.
type nobody struct{}

// Ref is zero.
func (nobody) Ref() journal.Ref { return journal.Ref{} }

// Context is empty.
func (nobody) Context(context.Context) (engine.InstanceContext, error) {
	return engine.InstanceContext{}, nil
}
