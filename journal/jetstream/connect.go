package jetstream

import (
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
)

// ConnectOptions configures a connection to a NATS server or cluster. Fields that name files are paths; empty means
// none.
type ConnectOptions struct {
	// Name is what the server's operator sees. Empty means "dormouse".
	Name string
	// CredentialsFile holds a JWT and its seed; NKeyFile a seed alone. At most one of them.
	CredentialsFile string
	NKeyFile        string
	// RootCAs are the authorities that may have signed the servers' certificates, in PEM.
	RootCAs string
	// CertFile and KeyFile are this client's certificate, in PEM: both or none.
	CertFile string
	KeyFile  string
	// Logger gets the ups and downs of the connection.
	Logger zerolog.Logger
}

func (o *ConnectOptions) fill() error {
	if o.Name == "" {
		o.Name = "dormouse"
	}
	if o.CredentialsFile != "" && o.NKeyFile != "" {
		return fmt.Errorf("connect to NATS: %w: a credentials file and an nkey exclude each other", ErrOptions)
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		return fmt.Errorf("connect to NATS: %w: a client certificate needs both files, certificate and key", ErrOptions)
	}
	return nil
}

// Connect connects to NATS: url is one or more URLs, separated by commas. The connection restores itself
// for ever, and never holds back what is sent while it is down, because the committer must know what was
// not sent. The caller closes it.
//
// Errors: ErrOptions; journal.ErrUnavailable if no server answers there now; what a server says of the identity.
func Connect(url string, o ConnectOptions) (*nats.Conn, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	opts, err := o.identity()
	if err != nil {
		return nil, err
	}
	return o.connect(url, append(opts, nats.FlusherTimeout(writeMost))...)
}

// writeMost bounds one write to a server that takes nothing. Whoever publishes meanwhile waits for it, whatever its context
// says, and so does Elsewhere; the client's own bound is a minute.
const writeMost = 10 * time.Second

// identity makes options of the files.
func (o *ConnectOptions) identity() (opts []nats.Option, err error) {
	if o.CredentialsFile != "" {
		opts = append(opts, nats.UserCredentials(o.CredentialsFile))
	}
	if o.NKeyFile != "" {
		nkey, err := nats.NkeyOptionFromSeed(o.NKeyFile)
		if err != nil {
			return nil, fmt.Errorf("connect to NATS: nkey %s: %w", o.NKeyFile, err)
		}
		opts = append(opts, nkey)
	}
	if o.RootCAs != "" {
		opts = append(opts, nats.RootCAs(o.RootCAs))
	}
	if o.CertFile != "" {
		opts = append(opts, nats.ClientCert(o.CertFile, o.KeyFile))
	}
	return opts, nil
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
	nc, err := nats.Connect(url, opts...)
	if errors.Is(err, nats.ErrNoServers) || errors.Is(err, nats.ErrTimeout) {
		return nil, unavailable("connect to NATS", err)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	return nc, nil
}
