package engine

// StateColumns returns what a frame consists of.
func StateColumns(states []SessionState) (columns, uuids []byte) {
	var c stateColumns
	for i := range states {
		c.add(&states[i])
	}
	return c.append(nil), c.uuids
}

// ReadStateColumns reads a frame.
func ReadStateColumns(columns, uuids []byte) (out []SessionState) {
	r := newStateRows(columns, uuids)
	for s, ok := r.next(); ok; s, ok = r.next() {
		out = append(out, s)
	}
	return out
}
