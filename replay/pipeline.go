package replay

import (
	"fmt"
	"sync"

	"github.com/dormouse-mcp/dormouse/journal"
)

// A group is handed on as one, so that small batches do not pay for it each, and is small enough for a processor's
// cache once it is opened.
const (
	groupMessages = 64
	groupBytes    = 128 << 10
)

// opened is a message with what is in it.
type opened struct {
	message journal.Message
	digest  journal.Digest
	batch   *journal.Batch
	err     error
}

func open(o Opener, m journal.Message) opened {
	b, err := o.Open(m.Data)
	return openedAs(m, b, err)
}

func openedAs(m journal.Message, b *journal.Batch, err error) opened {
	if err != nil {
		return opened{message: m, err: fmt.Errorf("open message %d: %w", m.Seq, err)}
	}
	return opened{message: m, digest: journal.DigestOf(m.Data), batch: b}
}

// arenaOpener is an Opener that can do without fresh memory: the fold copies what it keeps.
// *seal.BatchOpener implements it.
type arenaOpener interface {
	OpenIn(a *journal.Arena, data []byte) (*journal.Batch, error)
}

// group is some messages on their way. Its turn comes when the group before it is folded.
type group struct {
	items  []opened
	bytes  int
	turn   <-chan struct{}
	folded chan struct{}
}

// open opens the items, up to the first that does not open: what follows it is never folded.
func (g *group) open(o Opener, a *journal.Arena) {
	in, ok := o.(arenaOpener)
	for i := range g.items {
		it := &g.items[i]
		if ok {
			b, err := in.OpenIn(a, it.message.Data)
			*it = openedAs(it.message, b, err)
		} else {
			*it = open(o, it.message)
		}
		if it.err != nil {
			return
		}
	}
}

// pipeline opens messages in several goroutines, each of which folds what it has opened when its turn comes:
//
//	push -> work -> open, several groups at once -> wait for the turn -> fold, one group at a time
//
// So what was opened is folded by the processor that has it in its cache, and in the order of the pushes.
type pipeline struct {
	opener Opener
	fold   func([]opened) error
	next   *group
	turn   chan struct{} // of the next group
	work   chan *group
	free   chan *group // to be used again
	wg     sync.WaitGroup
	failed chan struct{} // closed once err is set
	err    error         // set by whose turn it is
}

func startPipeline(o Opener, workers int, fold func([]opened) error) *pipeline {
	depth := 4 * workers
	p := &pipeline{
		opener: o, fold: fold, turn: make(chan struct{}),
		work: make(chan *group, depth), free: make(chan *group, depth), failed: make(chan struct{}),
	}
	close(p.turn)
	for range workers {
		p.wg.Go(p.run)
	}
	return p
}

// push takes the next message. It fails with the first error of opening or folding.
func (p *pipeline) push(m journal.Message) error {
	if p.next == nil {
		p.next = p.group()
	}
	p.next.items = append(p.next.items, opened{message: m})
	p.next.bytes += len(m.Data)
	if len(p.next.items) < groupMessages && p.next.bytes < groupBytes {
		return nil
	}
	return p.dispatch()
}

// group returns an empty group.
func (p *pipeline) group() *group {
	select {
	case g := <-p.free:
		return g
	default:
		return new(group)
	}
}

func (p *pipeline) dispatch() error {
	g := p.next
	p.next = nil
	g.turn, g.folded = p.turn, make(chan struct{})
	select {
	case p.work <- g:
		p.turn = g.folded
		return nil
	case <-p.failed:
		return p.err
	}
}

// finish waits until everything pushed is folded and ends the goroutines. It returns the first error.
// Nothing may be pushed afterwards.
func (p *pipeline) finish() error {
	if p.next != nil {
		_ = p.dispatch() // its error is p.err
	}
	close(p.work)
	p.wg.Wait()
	return p.err
}

func (p *pipeline) run() {
	var arena journal.Arena
	for g := range p.work {
		g.open(p.opener, &arena)
		<-g.turn
		p.foldGroup(g)
		close(g.folded)
		arena.Reset()
		clear(g.items)
		g.items, g.bytes = g.items[:0], 0
		select {
		case p.free <- g:
		default:
		}
	}
}

// foldGroup folds a group whose turn it is, unless one before it failed.
func (p *pipeline) foldGroup(g *group) {
	if p.err != nil {
		return
	}
	if err := p.fold(g.items); err != nil {
		p.err = err
		close(p.failed)
	}
}
