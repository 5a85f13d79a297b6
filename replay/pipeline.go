package replay

import (
	"fmt"
	"sync"

	"github.com/dormouse-mcp/dormouse/journal"
)

// A group is handed from stage to stage as one, so that small batches do not pay for it each.
const (
	groupMessages = 64
	groupBytes    = 512 << 10
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

type group struct {
	items []opened
	bytes int
	arena journal.Arena
	ready chan struct{} // closed once every item is opened
}

// open opens the items, up to the first that does not open: what follows it is never folded.
func (g *group) open(o Opener) {
	in, ok := o.(arenaOpener)
	for i := range g.items {
		it := &g.items[i]
		if ok {
			b, err := in.OpenIn(&g.arena, it.message.Data)
			*it = openedAs(it.message, b, err)
		} else {
			*it = open(o, it.message)
		}
		if it.err != nil {
			return
		}
	}
}

// reset makes the group ready for other messages.
func (g *group) reset() {
	clear(g.items)
	g.items, g.bytes, g.ready = g.items[:0], 0, make(chan struct{})
	g.arena.Reset()
}

// pipeline opens messages in several goroutines and folds them in one, in order:
//
//	push -> work  -> openGroups, several at once
//	     -> queue -> foldGroups, which waits for each group to be ready
//
// Both channels carry the same groups in the same order.
type pipeline struct {
	opener Opener
	fold   func([]opened) error
	next   *group
	work   chan *group
	queue  chan *group
	folded chan *group // to be used again
	wg     sync.WaitGroup
	failed chan struct{} // closed once err is set
	err    error
}

func startPipeline(o Opener, workers int, fold func([]opened) error) *pipeline {
	depth := 4 * workers
	p := &pipeline{
		opener: o, fold: fold,
		work: make(chan *group, depth), queue: make(chan *group, depth), failed: make(chan struct{}),
		folded: make(chan *group, depth),
	}
	for range workers {
		p.wg.Go(p.openGroups)
	}
	p.wg.Go(p.foldGroups)
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
	case g := <-p.folded:
		g.reset()
		return g
	default:
		return &group{items: make([]opened, 0, groupMessages), ready: make(chan struct{})}
	}
}

func (p *pipeline) dispatch() error {
	g := p.next
	p.next = nil
	// Work first: whatever fold waits for is then sure to be opened.
	for _, stage := range []chan *group{p.work, p.queue} {
		select {
		case stage <- g:
		case <-p.failed:
			return p.err
		}
	}
	return nil
}

// finish waits until everything pushed is folded and ends the goroutines. It returns the first error.
// Nothing may be pushed afterwards.
func (p *pipeline) finish() error {
	if p.next != nil {
		_ = p.dispatch() // its error is p.err
	}
	close(p.work)
	close(p.queue)
	p.wg.Wait()
	return p.err
}

func (p *pipeline) openGroups() {
	for g := range p.work {
		g.open(p.opener)
		close(g.ready)
	}
}

func (p *pipeline) foldGroups() {
	for g := range p.queue {
		<-g.ready
		if p.err != nil {
			continue // drain
		}
		if err := p.fold(g.items); err != nil {
			p.err = err
			close(p.failed)
			continue
		}
		select {
		case p.folded <- g:
		default:
		}
	}
}
