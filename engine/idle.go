package engine

// idleList orders idle live entries by the time of their last use. It is a ring through the entries
// themselves, so that a request allocates nothing for it.
type idleList struct{ root link }

type link struct {
	prev, next *link
	en         *entry
}

func (i *idleList) init() { i.root.prev, i.root.next = &i.root, &i.root }

// push makes en the most recently used one. It must not be in the list.
func (i *idleList) push(en *entry) {
	l := &en.idle
	l.en, l.prev, l.next = en, i.root.prev, &i.root
	l.prev.next, l.next.prev = l, l
}

// remove takes en out of the list if it is there.
func (i *idleList) remove(en *entry) {
	l := &en.idle
	if l.next == nil {
		return
	}
	l.prev.next, l.next.prev = l.next, l.prev
	*l = link{}
}

// first returns the least recently used one, or nil.
func (i *idleList) first() *entry { return i.root.next.en }
