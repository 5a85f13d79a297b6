package jetstream

import "github.com/nats-io/nats.go"

// Elsewhere connects anew, to another of the servers that are known: the one that this connection leads to may be cut off
// from a majority of its peers, and would go on being polite. It does nothing where no other one is known, for an embedded server, or while there
// is no connection, which looks for another server anyway. What is under way is lost as with any broken connection.
func (j *Journal) Elsewhere() {
	if len(j.nc.Servers()) < 2 || j.nc.Opts.InProcessServer != nil || j.nc.Status() != nats.CONNECTED {
		return
	}
	j.log.Warn().Str("server", j.nc.ConnectedServerName()).Msg("the stream does not answer through this NATS server; trying another one")
	if err := j.nc.ForceReconnect(); err != nil {
		j.log.Debug().Err(err).Msg("no other connection")
	}
}
