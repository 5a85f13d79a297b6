package snapshot

import "github.com/dormouse-mcp/dormouse/replay"

// DecodeParts reads a chunk that is unpacked already.
func DecodeParts(meta, raw []byte) error {
	c, err := decode(meta, raw, true)
	if err == nil && c.block != nil {
		err = replay.NewLoader(c.rows).Take(c.block)
	}
	return err
}

// ParseSecrets reads the sealed part of a manifest.
func ParseSecrets(plain []byte) error {
	_, err := parseSecrets(plain)
	return err
}

// Parts returns what a chunk of a state's sessions consists of.
func Parts(f *replay.Frozen) (meta, raw []byte) {
	defer f.Release()
	f.Arrange()
	var c columns
	c.reset()
	for i := range f.Len() {
		s, alike := f.Session(i)
		c.add(&s, alike)
	}
	return c.append(nil, nil)
}
