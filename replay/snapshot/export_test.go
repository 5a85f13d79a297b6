package snapshot

import (
	"context"

	"github.com/dormouse-mcp/dormouse/replay"
)

// RestoreAs restores as a release does whose fold has that version.
func RestoreAs(ctx context.Context, fold uint64, o RestoreOptions) (*Restored, error) {
	o.fold = fold
	return Restore(ctx, o)
}

// Refold returns the manifest that a release with that version of the fold writes.
func Refold(m *Manifest, s Sealer, fold uint64) ([]byte, error) {
	x, err := m.open(s)
	if err != nil {
		return nil, err
	}
	as := *m
	as.Fold = fold
	return as.seal(s, x)
}

// DecodeParts reads a chunk that is unpacked already.
func DecodeParts(version byte, meta, refs, bodies []byte) error {
	l := replay.NewLoader(0)
	c, err := decode(version, &parts{meta: meta, refs: refs, bodies: bodies}, l, true)
	if err == nil && c.block != nil {
		err = l.Take(c.block)
	}
	return err
}

// ParseSecrets reads the sealed part of a manifest.
func ParseSecrets(plain []byte) error {
	_, err := parseSecrets(plain)
	return err
}

// Parts returns what a chunk of a state's sessions consists of.
func Parts(f *replay.Frozen) (meta, refs, bodies []byte) {
	defer f.Release()
	f.Arrange()
	w := writer{frozen: f, commons: newCommons(f), digests: make([]byte, 32*f.Len())}
	for i := range f.Len() {
		w.commons.of(f, f.Row(i).Common)
	}
	var c columns
	var p parts
	w.fill(&c, job{to: f.Len()}, &p)
	return p.meta, p.refs, p.bodies
}
