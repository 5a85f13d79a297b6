//go:build e2e

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
)

// TestFleetLinearizable: what clients of three replicas see of creating, bringing in, using and closing sessions has an order
// in which it could have happened on a single one, while replicas are killed and paused, the network between them and
// NATS stands still one way or loses acknowledgements, and a NATS server dies or is cut off from the others. Afterwards all replicas have folded the
// same state, and no epoch was claimed twice.
func TestFleetLinearizable(t *testing.T) {
	t.Parallel()
	for name, servers := range map[string]int{"NATS servers": 3, "embedded servers": embedded} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			linearizable(t, servers)
		})
	}
}

func linearizable(t *testing.T, servers int) {
	t.Helper()
	w := newWorld(t, servers)
	ctx, stop := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	for i := range 6 {
		workers.Go(func() { w.work(ctx, i) })
	}
	w.misfortunes()
	w.enough()
	stop()
	workers.Wait()
	w.judge()
	w.compare()
}

// world is a fleet whose replicas reach NATS through faulty proxies.
type world struct {
	t      *testing.T
	fleet  *fleet
	links  [][]link // of each replica, to NATS, or to and from the other ones' embedded servers
	routes *links   // between the NATS servers; nil where they are embedded
	tenant tenant
	began  time.Time

	mu       sync.Mutex // guards what follows
	sessions []string
	history  []porcupine.Operation
}

// link is a proxy as one of its ends sees it.
type link struct {
	proxy *faulty
	from  bool // connections through it are made to that end
}

// let says what comes through: what the end sends, and what it hears.
func (l link) let(up, down bool) {
	if l.from {
		up, down = down, up
	}
	l.proxy.up.set(up)
	l.proxy.down.set(down)
}

func newWorld(t *testing.T, servers int) *world {
	t.Helper()
	w := &world{t: t, tenant: newTenant(t), began: time.Now(), links: make([][]link, 3)}
	if servers == embedded {
		w.fleet = newFleet(t, embedded)
		w.fleet.route = w.between
		w.fleet.addAll(3)
		return w
	}
	w.fleet, w.routes = newLinkedFleet(t)
	for i := range 3 {
		var urls []string
		for url := range strings.SplitSeq(w.fleet.url, ",") {
			p := newFaulty(t, strings.TrimPrefix(url, "nats://"))
			urls, w.links[i] = append(urls, "nats://"+p.addr()), append(w.links[i], link{proxy: p})
		}
		w.fleet.add("--nats-url", strings.Join(urls, ","))
	}
	return w
}

// between puts a proxy between two embedded servers, for the connections that one of them makes.
func (w *world) between(from, to int, address string) string {
	p := newFaulty(w.t, address)
	w.links[from] = append(w.links[from], link{proxy: p})
	w.links[to] = append(w.links[to], link{proxy: p, from: true})
	return p.addr()
}

// Kinds of operations, and how they can come out.
type (
	op      int
	outcome int
	request struct {
		op      op
		session string
	}
)

const (
	opCreate op = iota // initialize; its ID is known only when it was answered
	opBring            // brings a session in under an ID known before
	opUse
	opClose
)

const (
	done    outcome = iota
	absent          // no such session, or none any more
	present         // brought in: it is there already
	ended           // brought in: it was there, and has ended
	unknown         // no answer, or one that leaves it open
)

// work does one thing after the other until ctx ends.
func (w *world) work(ctx context.Context, client int) {
	for ctx.Err() == nil {
		r := w.fleet.replicas[rand.IntN(len(w.fleet.replicas))]
		session := w.pick()
		switch n := rand.IntN(20); {
		case session == "" || n < 3:
			w.create(ctx, client, r)
		case n < 5:
			session = uuid.NewString()
			w.bring(ctx, client, r, session)
			w.add(session)
		case n < 6:
			w.bring(ctx, client, r, session)
		case n < 8:
			w.do(ctx, client, opClose, http.MethodDelete, r, session)
		default:
			w.do(ctx, client, opUse, http.MethodPost, r, session)
		}
	}
}

// pick returns one of the newest sessions.
func (w *world) pick() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	newest := w.sessions[max(0, len(w.sessions)-12):]
	if len(newest) == 0 {
		return ""
	}
	return newest[rand.IntN(len(newest))]
}

func (w *world) add(session string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sessions = append(w.sessions, session)
}

// record notes an operation. One whose outcome is not known may take effect at any time from its call on.
func (w *world) record(client int, o op, session string, out outcome, called time.Duration) {
	returned := time.Since(w.began)
	if out == unknown {
		returned = time.Hour
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history = append(w.history, porcupine.Operation{
		ClientId: client, Input: request{o, session}, Output: out, Call: called.Nanoseconds(), Return: returned.Nanoseconds(),
	})
}

func (w *world) create(ctx context.Context, client int, r *replica) {
	called := time.Since(w.began)
	status, _, h, err := w.send(ctx, http.MethodPost, r, "", initializeMessage)
	if err == nil && status == http.StatusOK {
		session := h.Get("Mcp-Session-Id")
		w.record(client, opCreate, session, done, called)
		w.add(session)
	}
}

func (w *world) do(ctx context.Context, client int, o op, method string, r *replica, session string) {
	body := `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	if o == opClose {
		body = ""
	}
	called := time.Since(w.began)
	status, _, _, err := w.send(ctx, method, r, session, body)
	out := unknown
	switch {
	case err != nil:
	case status == http.StatusOK, status == http.StatusNoContent:
		out = done
	case status == http.StatusNotFound:
		out = absent
	}
	w.record(client, o, session, out, called)
}

// bring restores a session from an export that names it.
func (w *world) bring(ctx context.Context, client int, r *replica, session string) {
	now := time.Now().UTC().Format(time.RFC3339)
	export := fmt.Sprintf(`[{"sessionId":%q,"metadata":{"createdAt":%q,"lastAccess":%q},"context":{"n8nApiUrl":%q,"n8nApiKey":%q,"instanceId":%q}}]`,
		session, now, now, w.tenant.url, w.tenant.key, w.tenant.name)
	called := time.Since(w.began)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out := unknown
	if c, err := control.Connect(ctx, r.data); err == nil {
		result, err := c.Restore(ctx, strings.NewReader(export))
		switch {
		case err != nil:
		case result.Restored == 1:
			out = done
		case result.Skipped.Duplicate == 1:
			out = present
		case result.Skipped.Ended == 1:
			out = ended
		}
	}
	w.record(client, opBring, session, out, called)
}

func (w *world) send(ctx context.Context, method string, r *replica, session, body string) (int, string, http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return w.tenant.send(ctx, method, r.url(), session, body)
}

// misfortunes happen one after the other; each is over before the next begins.
func (w *world) misfortunes() {
	const long = 1500 * time.Millisecond // beyond it the fleet's replicas stop serving what they own
	for round, happens := range []func(i int){
		w.kill,
		func(i int) { w.still(i, true, false, false) },
		w.pause,
		func(i int) { w.still(i, false, true, true) }, // acknowledgements that never arrive
		w.loseServer,
		func(i int) { w.still(i, true, true, false) },
		func(i int) { w.still(i, true, false, true) },
		w.part,
		w.kill,
	} {
		<-time.After(long / 3)
		happens(round % 3)
		<-time.After(long)
	}
}

func (w *world) kill(i int) {
	r := w.fleet.replicas[i]
	r.end(syscall.SIGKILL)
	r.start()
	w.fleet.awaitReady(r)
}

func (w *world) pause(i int) {
	r := w.fleet.replicas[i]
	r.signal(syscall.SIGSTOP)
	<-time.After(4 * time.Second) // others take over meanwhile
	r.signal(syscall.SIGCONT)
}

// still stops what one replica sends to NATS, or hears from it, or both. With lost, what was under way never arrives.
func (w *world) still(i int, up, down, lost bool) {
	for _, l := range w.links[i] {
		l.let(!up, !down)
	}
	<-time.After(3 * time.Second)
	for _, l := range w.links[i] {
		if lost {
			l.proxy.cut()
		}
		l.proxy.heal()
	}
}

// part cuts a server of the streams off from the others, for long enough that these may elect leaders without it.
func (w *world) part(i int) {
	let := func(open bool) {
		if w.routes != nil {
			w.routes.of(i, open, open)
			return
		}
		for _, l := range w.links[i] {
			l.let(open, open)
		}
	}
	let(false)
	<-time.After(8 * time.Second)
	let(true)
}

func (w *world) loseServer(i int) {
	w.fleet.crash(i)
	<-time.After(2 * time.Second)
	w.fleet.revive(i)
}

// life is the state of one session in the model.
type life int

const (
	never life = iota
	open
	over
)

// sessionModel is what a single server would do with one session, but for two things. Using one that was closed a moment
// ago may still succeed on another replica, which learns of it by folding. And DELETE is idempotent: whoever asked for it
// while another one's was under way hears as well that the session is over.
var sessionModel = porcupine.NondeterministicModel{
	Partition: func(history []porcupine.Operation) (parts [][]porcupine.Operation) {
		by := map[string]int{}
		for _, o := range history {
			session := o.Input.(request).session
			at, ok := by[session]
			if !ok {
				at, by[session] = len(parts), len(parts)
				parts = append(parts, nil)
			}
			parts[at] = append(parts[at], o)
		}
		return parts
	},
	Init: func() []any { return []any{never} },
	Step: func(state, input, output any) []any {
		is, in, out := state.(life), input.(request), output.(outcome)
		var states []any
		for _, to := range after(is, in.op, out) {
			states = append(states, to)
		}
		return states
	},
	Equal:             func(a, b any) bool { return a == b },
	DescribeOperation: func(in, out any) string { return fmt.Sprint(in, " -> ", out) },
	DescribeState:     func(s any) string { return [...]string{"never", "open", "over"}[s.(life)] },
}

// after returns the states in which a session can be after an operation that came out so; none if it cannot have.
func after(is life, o op, out outcome) []life {
	if out == unknown {
		switch {
		case o == opClose && is == open:
			return []life{open, over}
		case o == opBring && is == never:
			return []life{never, open}
		}
		return []life{is}
	}
	type step struct {
		is  life
		op  op
		out outcome
	}
	to, ok := map[step]life{
		{never, opCreate, done}:  open,
		{never, opBring, done}:   open,
		{open, opBring, present}: open,
		{over, opBring, ended}:   over,
		{open, opUse, done}:      open,
		{over, opUse, done}:      over,
		{never, opUse, absent}:   never,
		{over, opUse, absent}:    over,
		{open, opClose, done}:    over,
		{over, opClose, done}:    over,
		{never, opClose, absent}: never,
		{over, opClose, absent}:  over,
	}[step{is, o, out}]
	if !ok {
		return nil
	}
	return []life{to}
}

// counts returns how many operations came out how.
func (w *world) counts() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	count := map[string]int{}
	for _, o := range w.history {
		count[fmt.Sprintf("%v/%v", [...]string{"create", "bring", "use", "close"}[o.Input.(request).op], [...]string{"done", "absent", "present", "ended", "unknown"}[o.Output.(outcome)])]++
	}
	return count
}

// enough waits until the history proves something.
func (w *world) enough() {
	w.fleet.await("operations of each kind that were done", func() bool {
		count := w.counts()
		return count["create/done"] > 0 && count["bring/done"] > 0 && count["use/done"] > 0 && count["close/done"] > 0
	})
}

// judge looks for an order.
func (w *world) judge() {
	w.t.Logf("%d operations on %d sessions: %v", len(w.history), len(w.sessions), w.counts())
	model := sessionModel.ToModel()
	for _, part := range sessionModel.Partition(w.history) {
		if porcupine.CheckOperations(model, part) {
			continue
		}
		var b strings.Builder
		for _, o := range part {
			fmt.Fprintf(&b, "\n%10.3f to %10.3f ms, worker %d: %v -> %v", float64(o.Call)/1e6, float64(o.Return)/1e6, o.ClientId,
				[...]string{"create", "bring", "use", "close"}[o.Input.(request).op], [...]string{"done", "absent", "present", "ended", "unknown"}[o.Output.(outcome)])
		}
		w.t.Errorf("no order explains what was seen of one session:%s", b.String())
	}
}

func (w *world) compare() { w.fleet.compare() }

// compare waits until all replicas have folded to the same sequence, and compares what they have.
func (f *fleet) compare() {
	f.t.Helper()
	for _, r := range f.replicas {
		f.awaitReady(r)
	}
	var digests []control.StateDigest
	f.await("all replicas at one sequence", func() bool {
		digests = digests[:0]
		for _, r := range f.replicas {
			c, err := control.Connect(f.t.Context(), r.data)
			if err != nil {
				return false
			}
			d, err := c.StateDigest(f.t.Context())
			if err != nil {
				return false
			}
			digests = append(digests, d)
		}
		return !slices.ContainsFunc(digests, func(d control.StateDigest) bool { return d.Seq != digests[0].Seq })
	})
	for _, d := range digests[1:] {
		if d != digests[0] {
			f.t.Errorf("at message %d the replicas' states differ: %v", d.Seq, digests)
		}
	}
	epochs(f.t, f.replicas[0])
}
