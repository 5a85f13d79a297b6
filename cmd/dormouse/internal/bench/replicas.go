package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// The parts of Replicas.
const (
	PartTakeOver = "takeover" // from the end of the replica that serves a session to the first answer elsewhere
	PartAppend   = "append"   // on three servers, beside one
	PartLag      = "lag"      // of a standby under full write load
	PartFresh    = "fresh"    // a new replica, from exec to ready
	PartForward  = "forward"  // through another replica to the one that serves the session
)

// ReplicasOptions say what Replicas measures.
type ReplicasOptions struct {
	Parts    []string
	Kills    int           // how often a replica goes, in each way
	Pauses   int           // how often one stands still, at most; each takes some seconds
	Members  int           // how often a replica goes that is one of a cluster of embedded servers, in each way
	Owned    int           // sessions that it serves then
	Callers  []int         // of appends; the lag is measured with the first number
	LagFor   time.Duration // how long the standby is watched under each load
	Sessions int           // that a fresh replica must know
	Conns    []int         // numbers of clients that are forwarded
	Rounds   int           // interleaved rounds of appends and forwards, after one that warms up; starts of fresh replicas
	RoundFor time.Duration // how long one round lasts
	Step     func(string)  // told what is under way; not nil
}

// ReplicasResult is what Replicas measured, part by part.
type ReplicasResult struct {
	TakeOver []TakeOverRow `json:"takeover,omitempty"`
	Append   []SharedRow   `json:"append,omitempty"`
	Lag      []LagRow      `json:"lag,omitempty"`
	Fresh    []FreshRow    `json:"fresh,omitempty"`
	Forward  []ForwardRow  `json:"forward,omitempty"`
}

type replicas struct {
	o       ReplicasOptions
	folder  string
	cluster *cluster
}

// Replicas measures several replicas on a cluster of three NATS servers. All of them are processes of this binary, on
// loopback and on one disk.
func Replicas(ctx context.Context, o ReplicasOptions) (out ReplicasResult, err error) {
	r := &replicas{o: o}
	if r.folder, err = os.MkdirTemp("", "dormouse-bench-"); err != nil {
		return out, err
	}
	defer os.RemoveAll(r.folder)
	if r.cluster, err = startCluster(ctx, r.folder); err != nil {
		return out, err
	}
	defer r.cluster.stop()
	for _, p := range []struct {
		name string
		run  func() error
	}{
		{PartTakeOver, func() (err error) { out.TakeOver, err = r.takeOver(ctx); return err }},
		{PartAppend, func() (err error) { out.Append, err = r.appends(ctx); return err }},
		{PartLag, func() (err error) { out.Lag, err = r.lag(ctx); return err }},
		{PartFresh, func() (err error) { out.Fresh, err = r.fresh(ctx); return err }},
		{PartForward, func() (err error) { out.Forward, err = r.forward(ctx); return err }},
	} {
		if !slices.Contains(o.Parts, p.name) {
			continue
		}
		if err := errors.Join(p.run(), r.cluster.clear(ctx)); err != nil {
			return out, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return out, nil
}
