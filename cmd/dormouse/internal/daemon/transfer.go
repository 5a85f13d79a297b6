package daemon

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"os"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/engine"
)

// ErrExportKey says that a text is no key of the encrypted export.
var ErrExportKey = errors.New("want a key of 32 bytes: 64 hexadecimal digits, or base64")

// ReadExportKey reads the key of the encrypted export from a file.
func ReadExportKey(path string) ([]byte, error) {
	data, err := os.ReadFile(path) //nolint:gosec // the operator names it
	if err != nil {
		return nil, fmt.Errorf("export key: %w", err)
	}
	key, err := ParseExportKey(data)
	if err != nil {
		return nil, fmt.Errorf("export key: %s: %w", path, err)
	}
	return key, nil
}

// ParseExportKey reads 32 bytes in hexadecimal, as the seed guide's ENCRYPTION_KEY, or in base64.
func ParseExportKey(text []byte) ([]byte, error) {
	s := string(bytes.TrimSpace(text))
	for _, decode := range []func(string) ([]byte, error){
		hex.DecodeString, base64.StdEncoding.DecodeString, base64.URLEncoding.DecodeString, base64.RawStdEncoding.DecodeString,
	} {
		if key, err := decode(s); err == nil && len(key) == 32 {
			return key, nil
		}
	}
	return nil, ErrExportKey
}

// TransferOf lets sessions be moved into and out of an engine.
func TransferOf(e *engine.Engine) control.Transfer {
	return control.Transfer{
		Export: func(ctx context.Context, fn func([]byte) error, received func() error) (int, error) {
			return e.ExportReceived(ctx, func(s engine.SessionState) error {
				text, err := engine.EncodeSessionState(&s)
				if err != nil {
					return err
				}
				defer clear(text)
				return fn(text)
			}, received)
		},
		Restore: func(ctx context.Context, states iter.Seq[engine.SessionState]) (engine.RestoreResult, error) {
			return e.RestoreEach(ctx, states)
		},
	}
}

// transfer counts what is moved. It is asked only while ready.
func (d *daemon) transfer() control.Transfer {
	return control.Transfer{
		Export: func(ctx context.Context, fn func([]byte) error, received func() error) (int, error) {
			size := len("[]")
			n, err := TransferOf(d.engine).Export(ctx, func(state []byte) error {
				size += len(state) + len(",")
				return fn(state)
			}, received)
			if err == nil {
				d.metrics.Exported(n, size-min(n, 1))
			}
			return n, err
		},
		Restore: func(ctx context.Context, states iter.Seq[engine.SessionState]) (engine.RestoreResult, error) {
			result, err := d.engine.RestoreEach(ctx, states)
			if err == nil {
				d.metrics.Restored(result)
			}
			return result, err
		},
	}
}
