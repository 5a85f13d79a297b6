package replicas

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// ErrStranger says that whoever is at the other end does not have this deployment's keys.
var ErrStranger = errors.New("not a replica of this deployment")

// TLS returns the configurations of both ends of a connection between replicas. Each proves to the other that it has
// the secret, which all replicas derive from the keyring; nothing else is checked, and no certificate has to be
// looked after. The connection is encrypted.
func TLS(secret []byte) (server, client *tls.Config, err error) {
	seed := sha256.Sum256(append([]byte("dormouse replica key v1\x00"), secret...))
	key := ed25519.NewKeyFromSeed(seed[:])
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "dormouse replica"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, fmt.Errorf("replica certificate: %w", err)
	}
	own := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	check := func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 {
			return ErrStranger
		}
		if theirs, ok := s.PeerCertificates[0].PublicKey.(ed25519.PublicKey); !ok || !theirs.Equal(key.Public()) {
			return ErrStranger
		}
		return nil
	}
	server = &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAnyClientCert,
		VerifyConnection: check, NextProtos: []string{"http/1.1"},
	}
	client = &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own}, ServerName: "dormouse",
		InsecureSkipVerify: true, // #nosec G402 -- names mean nothing here: VerifyConnection wants the very key
		VerifyConnection:   check,
	}
	return server, client, nil
}
