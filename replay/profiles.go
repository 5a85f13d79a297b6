package replay

import "sync/atomic"

// profileID numbers a profile; zero is none.
type profileID uint32

// profiles holds profiles by number, for records have no pointers. A frozen table shares the slice: while one is held,
// numbers are not used again.
type profiles struct {
	list []*profile // zero aside
	free []profileID
	held *atomic.Int32
}

func newProfiles() *profiles { return &profiles{list: make([]*profile, 1), held: new(atomic.Int32)} }

func (p *profiles) at(id profileID) *profile { return p.list[id] }

func (p *profiles) add(x *profile) profileID {
	if n := len(p.free); n > 0 && p.held.Load() == 0 {
		id := p.free[n-1]
		p.free = p.free[:n-1]
		p.list[id] = x
		return id
	}
	p.list = append(p.list, x)
	return profileID(len(p.list) - 1)
}

func (p *profiles) remove(id profileID) {
	if p.held.Load() == 0 {
		p.list[id] = nil
	}
	p.free = append(p.free, id)
}
