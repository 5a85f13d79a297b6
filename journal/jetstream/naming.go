package jetstream

import (
	"context"
	"maps"

	"github.com/dormouse-mcp/dormouse/journal"
)

// metaNaming is in the key stream's metadata: by which names this journal knows its tenants.
const metaNaming = "dormouse-naming"

// Naming returns what SetNaming stored; empty if nothing was.
func (j *Journal) Naming() string { return j.keys.CachedInfo().Config.Metadata[metaNaming] }

// SetNaming stores the fingerprint of the key that makes the names of this journal's tenants, once, and returns the one
// that is stored: another one, if another replica was first. Errors: journal.ErrUnavailable, the cause of ctx.
func (j *Journal) SetNaming(ctx context.Context, fingerprint string) (stored string, err error) {
	for range 2 {
		info, _, err := askInfo(ctx, j.keys)
		if err != nil {
			return "", askError(ctx, "look at the key stream", err)
		}
		if stored = info.Config.Metadata[metaNaming]; stored != "" {
			return stored, nil
		}
		c := info.Config
		c.Metadata = maps.Clone(c.Metadata)
		c.Metadata[metaNaming] = fingerprint
		if _, err := j.js.UpdateStream(ctx, c); err != nil {
			return "", askError(ctx, "update the key stream", err)
		}
	}
	return "", unavailable("update the key stream", journal.ErrConflict)
}
