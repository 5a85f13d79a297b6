package jetstream_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
)

// A server that takes nothing holds up whoever publishes, because the client's connection is locked while it writes: that is
// to end before the callers of an append and a fence have long given up. (By hand: with a cable that is cut, a publish of
// 512 KiB whose context allowed half a second returned after a minute, and returns after ten seconds now.)
func TestWritesEnd(t *testing.T) {
	t.Parallel()
	s := startNATS(t, &server.Options{})
	nc, err := jetstream.Connect(s.ClientURL(), jetstream.ConnectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if most := nc.Opts.FlusherTimeout; most <= 0 || most > jetstream.ElectionPatience {
		t.Errorf("a write may take %v", most)
	}
}

// TestConnectByNKeyAndCertificate: a server that wants a client certificate and an nkey gets both, and lets nobody in
// who lacks one of them.
func TestConnectByNKeyAndCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := newAuthority(t, dir)
	serverCert := ca.sign(t, dir, "server")
	ca.sign(t, dir, "client")
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, _ := user.Seed()
	public, _ := user.PublicKey()
	write(t, filepath.Join(dir, "seed"), seed)
	s := startNATS(t, &server.Options{
		TLS: true, TLSTimeout: 10,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{serverCert}, ClientCAs: ca.pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13},
		Nkeys:     []*server.NkeyUser{{Nkey: public}},
	})
	in := func(name string) string { return filepath.Join(dir, name) }
	whole := jetstream.ConnectOptions{RootCAs: in("ca.pem"), CertFile: in("client.pem"), KeyFile: in("client.key"), NKeyFile: in("seed")}
	nc, err := jetstream.Connect(s.ClientURL(), whole)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := jetstream.Open(t.Context(), nc, jetstream.Options{Create: true}); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*jetstream.ConnectOptions){
		"no client certificate": func(o *jetstream.ConnectOptions) { o.CertFile, o.KeyFile = "", "" },
		"no nkey":               func(o *jetstream.ConnectOptions) { o.NKeyFile = "" },
		"no authority":          func(o *jetstream.ConnectOptions) { o.RootCAs = "" },
		"half a certificate":    func(o *jetstream.ConnectOptions) { o.KeyFile = "" },
		"two identities":        func(o *jetstream.ConnectOptions) { o.CredentialsFile = in("creds") },
	} {
		o := whole
		change(&o)
		if nc, err := jetstream.Connect(s.ClientURL(), o); err == nil {
			nc.Close()
			t.Errorf("%s: it was let in", name)
		}
	}
}

// TestDeploymentsShareServers: two prefixes are two journals.
func TestDeploymentsShareServers(t *testing.T) {
	t.Parallel()
	nc, err := jetstream.Connect(startNATS(t, &server.Options{}).ClientURL(), jetstream.ConnectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	var ids []journal.ID
	for _, prefix := range []string{"blue", "green", "blue"} {
		j, err := jetstream.Open(t.Context(), nc, jetstream.Options{Prefix: prefix, Create: true})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, j.ID())
	}
	if ids[0] == ids[1] || ids[0] != ids[2] {
		t.Errorf("the journals are %v", ids)
	}
}

// TestPromise: what the servers guarantee is told as it is, and what is not known is not claimed.
func TestPromise(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		o         server.Options
		unasked   bool
		says      string
		complains string // in the last warning; empty: only of the one replica
	}{
		"synced":  {o: server.Options{SyncAlways: true}, says: "acknowledged and synced to disk by one NATS server"},
		"default": {says: "synced to disk up to 2m0s later", complains: "acknowledged does not mean durable"},
		"unknown": {unasked: true, says: "cannot be seen from here", complains: "it is not known"},
		"10s":     {o: server.Options{SyncInterval: 10 * time.Second}, says: "up to 10s later", complains: "loses up to 10s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.o.HTTPHost, c.o.HTTPPort = "127.0.0.1", -1
			s := startNATS(t, &c.o)
			nc, err := jetstream.Connect(s.ClientURL(), jetstream.ConnectOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			j, err := jetstream.Open(t.Context(), nc, jetstream.Options{Create: true})
			if err != nil {
				t.Fatal(err)
			}
			monitors := []string{"http://" + s.MonitorAddr().String()}
			if c.unasked {
				monitors = nil
			}
			p, err := j.Promise(t.Context(), monitors)
			if err != nil {
				t.Fatal(err)
			}
			if got := p.String(); !strings.Contains(got, c.says) {
				t.Errorf("it says %q, want %q in it", got, c.says)
			}
			w := p.Warnings()
			if len(w) == 0 || !strings.Contains(w[0], "one replica") {
				t.Errorf("no word of the one replica: %q", w)
			}
			if last := w[len(w)-1]; !strings.Contains(last, c.complains) || c.complains == "" && len(w) > 1 {
				t.Errorf("warnings %q, want %q in the last", w, c.complains)
			}
		})
	}
}

// TestPromiseWithoutMonitor: a monitoring port that does not answer is told, and nothing is concluded from it.
func TestPromiseWithoutMonitor(t *testing.T) {
	t.Parallel()
	nc, err := jetstream.Connect(startNATS(t, &server.Options{SyncAlways: true}).ClientURL(), jetstream.ConnectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	j, err := jetstream.Open(t.Context(), nc, jetstream.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	nobody := fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	p, err := j.Promise(t.Context(), []string{nobody})
	if err != nil || p.Sync.Asked != 0 || p.Sync.Always || p.Sync.Err == nil {
		t.Errorf("%+v, %v", p, err)
	}
}

func startNATS(t *testing.T, o *server.Options) *server.Server {
	t.Helper()
	o.Host, o.Port, o.NoSigs, o.NoLog, o.JetStream, o.StoreDir = "127.0.0.1", -1, true, true, true, t.TempDir()
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("the server does not come up")
	}
	return s
}

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T, dir string) *authority {
	t.Helper()
	a := &authority{key: newKey(t), pool: x509.NewCertPool()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err == nil {
		a.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	write(t, filepath.Join(dir, "ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a
}

func (a *authority) sign(t *testing.T, dir, name string) tls.Certificate {
	t.Helper()
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, key.Public(), a.key)
	raw, err2 := x509.MarshalPKCS8PrivateKey(key)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, filepath.Join(dir, name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestClock: the stream's clock is compared with this machine's whenever its leader is asked; here they are one.
func TestClock(t *testing.T) {
	t.Parallel()
	nc, err := jetstream.Connect(startNATS(t, &server.Options{}).ClientURL(), jetstream.ConnectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	j, err := jetstream.Open(t.Context(), nc, jetstream.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Bounds(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c := j.Clock(); c.Asked.IsZero() || c.Ahead.Abs() > c.Within {
		t.Errorf("%+v: want less than what the question took", c)
	}
}

// TestClusterOptions: what cannot become a cluster is refused before anything is started.
func TestClusterOptions(t *testing.T) {
	t.Parallel()
	three := []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"}
	for name, o := range map[string]jetstream.ClusterOptions{
		"two servers": {Name: "c", Listen: "127.0.0.1:1", Peers: three[:2]},
		"no port":     {Name: "c", Listen: "127.0.0.1", Peers: three},
		"a bad peer":  {Name: "c", Listen: "127.0.0.1:1", Peers: append([]string{"nowhere"}, three...)},
		"a bad name":  {Name: "a b", Listen: "127.0.0.1:1", Peers: three},
	} {
		s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: t.TempDir(), Cluster: o})
		if !errors.Is(err, jetstream.ErrOptions) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			s.Shutdown()
		}
	}
}
