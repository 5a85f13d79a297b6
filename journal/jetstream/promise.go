package jetstream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	js "github.com/nats-io/nats.go/jetstream"
)

// Promise is what the servers guarantee for what they have acknowledged, as far as it can be known.
type Promise struct {
	Version  string // of the server that we are connected to
	Cluster  string // its cluster's name; empty = a server that is in none
	Servers  int    // of the cluster, as far as the connection knows them
	Replicas int    // of the stream with the fewest
	Wanted   int    // replicas, as configured; 0 = not said
	Sync     Sync
}

// Sync is when servers write what they have acknowledged through to the disk: the weakest of those that were asked.
type Sync struct {
	Asked    int           // servers that answered; 0: it is not known
	Always   bool          // before they acknowledge
	Interval time.Duration // else after so long at most
	Err      error         // why a server did not answer
}

// Promise asks what the streams' servers guarantee. monitors are URLs of servers' monitoring ports: without any,
// sync_interval cannot be known. Only what is asked of the stream itself can fail.
func (j *Journal) Promise(ctx context.Context, monitors []string) (Promise, error) {
	info, err := j.batches.Info(ctx)
	if err != nil {
		return Promise{}, askError(ctx, "what the servers guarantee", err)
	}
	p := Promise{
		Version: j.nc.ConnectedServerVersion(), Cluster: j.nc.ConnectedClusterName(), Servers: len(j.nc.Servers()),
		Replicas: info.Config.Replicas, Wanted: j.wanted, Sync: readSync(ctx, monitors),
	}
	if c := info.Cluster; c != nil {
		p.Cluster, p.Servers = cmp.Or(p.Cluster, c.Name), max(p.Servers, 1+len(c.Replicas))
	}
	for _, name := range []string{"KEYS", "MARKS", "SNAPSHOTS"} {
		s, err := j.js.Stream(ctx, strings.ToUpper(j.prefix)+"_"+name)
		if errors.Is(err, js.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return p, askError(ctx, "what the servers guarantee", err)
		}
		p.Replicas = min(p.Replicas, s.CachedInfo().Config.Replicas)
	}
	return p, nil
}

// String says it in one sentence.
func (p Promise) String() string {
	where := "one NATS server"
	if p.Replicas > 1 {
		where = fmt.Sprintf("a majority of %d NATS servers", p.Replicas)
	}
	switch {
	case p.Sync.Asked == 0:
		return "acknowledged by " + where + "; whether that is synced to disk first cannot be seen from here"
	case p.Sync.Always:
		return "acknowledged and synced to disk by " + where
	default:
		return fmt.Sprintf("acknowledged by %s, and synced to disk up to %v later", where, p.Sync.Interval)
	}
}

// Warnings say in which case something that was acknowledged can be lost; each is a sentence or two for the operator.
func (p Promise) Warnings() (list []string) {
	warn := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	const always = "set jetstream { sync_interval: always } in every server's configuration"
	switch {
	case p.Replicas == 1 && p.Cluster != "":
		warn("the streams have one replica, in a cluster: whatever is acknowledged is on one server's disk alone, and while that server is down nothing works. --nats-replicas counts only when streams are made; to change it now: nats stream edit NAME --replicas 3")
	case p.Replicas == 1:
		warn("the streams have one replica: whatever is acknowledged is on one server's disk alone")
	case p.Replicas < p.Wanted:
		warn("a stream has %d replicas, not %d: --nats-replicas counts only when streams are made; to change it now: nats stream edit NAME --replicas %d", p.Replicas, p.Wanted, p.Wanted)
	}
	switch {
	case p.Sync.Asked == 0 && p.Replicas == 1:
		warn("it is not known when the server syncs its disk; by default a power cut loses the last two minutes, acknowledged or not: %s, and give --nats-monitor URL so that this can be checked", always)
	case p.Sync.Asked == 0:
		warn("it is not known when the servers sync their disks; by default a power cut of a majority at once loses the last two minutes, acknowledged or not: %s, and give --nats-monitor URLs so that this can be checked", always)
	case !p.Sync.Always && p.Replicas == 1:
		warn("acknowledged does not mean durable: a power cut loses up to %v: %s", p.Sync.Interval, always)
	case !p.Sync.Always:
		warn("acknowledged does not mean durable: a power cut of a majority at once loses up to %v: %s", p.Sync.Interval, always)
	}
	if p.Sync.Err != nil {
		warn("not every server could be asked when it syncs its disk: %v", p.Sync.Err)
	}
	return list
}

// defaultSync is a server's sync_interval where it tells none.
const defaultSync = 2 * time.Minute

// readSync asks servers' monitoring ports.
func readSync(ctx context.Context, monitors []string) (s Sync) {
	s.Always = true
	for _, url := range monitors {
		always, interval, err := syncOf(ctx, url)
		if err != nil {
			s.Err = errors.Join(s.Err, err)
			continue
		}
		s.Asked++
		if !always {
			s.Always, s.Interval = false, max(s.Interval, interval)
		}
	}
	s.Always = s.Always && s.Asked > 0
	return s
}

func syncOf(ctx context.Context, url string) (always bool, interval time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	url = strings.TrimSuffix(url, "/") + "/varz"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false, 0, fmt.Errorf("monitoring port: %w", err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, 0, fmt.Errorf("monitoring port: %w", err)
	}
	defer res.Body.Close()
	var v struct {
		JetStream struct {
			Config *struct {
				SyncInterval time.Duration `json:"sync_interval"`
				SyncAlways   bool          `json:"sync_always"`
			} `json:"config"`
		} `json:"jetstream"`
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, 4<<20)).Decode(&v); err != nil || v.JetStream.Config == nil {
		return false, 0, fmt.Errorf("monitoring port: %s does not tell of JetStream (HTTP %d)", url, res.StatusCode)
	}
	c := v.JetStream.Config
	return c.SyncAlways, cmp.Or(c.SyncInterval, defaultSync), nil
}
