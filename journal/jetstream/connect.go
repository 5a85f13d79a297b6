package jetstream

import (
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
)

// ConnectOptions configures a connection to a NATS server or cluster.
type ConnectOptions struct {
	// Name is what the server's operator sees. Empty means "dormouse".
	Name string
	// CredentialsFile and RootCAs are paths of files; empty means none.
	CredentialsFile string
	RootCAs         string
	// Logger gets the ups and downs of the connection.
	Logger zerolog.Logger
}

// Connect connects to NATS: url is one or more URLs, separated by commas. The connection restores itself
// for ever, and never holds back what is sent while it is down, because the committer must know what was
// not sent. The caller closes it.
func Connect(url string, o ConnectOptions) (*nats.Conn, error) {
	if o.Name == "" {
		o.Name = "dormouse"
	}
	return o.connect(url)
}

func (o *ConnectOptions) connect(url string, more ...nats.Option) (*nats.Conn, error) {
	opts := append([]nats.Option{
		nats.Name(o.Name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectBufSize(-1),
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			o.Logger.Warn().Err(err).Msg("disconnected from NATS")
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			o.Logger.Info().Str("server", nc.ConnectedServerName()).Msg("connected to NATS again")
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			o.Logger.Warn().Err(err).Msg("NATS")
		}),
		nats.NoCallbacksAfterClientClose(),
	}, more...)
	if o.CredentialsFile != "" {
		opts = append(opts, nats.UserCredentials(o.CredentialsFile))
	}
	if o.RootCAs != "" {
		opts = append(opts, nats.RootCAs(o.RootCAs))
	}
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	return nc, nil
}
