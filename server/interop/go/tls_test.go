package interop

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// An authority signs certificates for tests.
type authority struct {
	t       *testing.T
	cert    *x509.Certificate
	key     *ecdsa.PrivateKey
	file    string
	revoked string // a list, if somebody writes it
	last    int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	directory := t.TempDir()
	a := &authority{t: t, key: key, last: 1}
	a.file, a.revoked = filepath.Join(directory, "ca.pem"), filepath.Join(directory, "revoked")
	a.cert = &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "authority"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SubjectKeyId:          []byte{1},
	}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, &key.PublicKey, key)
	check(t, err)
	writePEM(t, a.file, "CERTIFICATE", der)
	return a
}

// issue gives the files of a certificate and its key.
func (a *authority) issue(name string) (cert, key string, serial *big.Int) {
	a.t.Helper()
	a.last++
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(a.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.last),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames:     []string{name + ".example"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.key)
	check(a.t, err)
	encoded, err := x509.MarshalECPrivateKey(private)
	check(a.t, err)
	directory := a.t.TempDir()
	cert, key = filepath.Join(directory, "cert.pem"), filepath.Join(directory, "key.pem")
	writePEM(a.t, cert, "CERTIFICATE", der)
	writePEM(a.t, key, "EC PRIVATE KEY", encoded)
	return cert, key, template.SerialNumber
}

// revoke writes a list of what is revoked, as etcd reads it.
func (a *authority) revoke(file string, serials ...*big.Int) {
	a.t.Helper()
	list := &x509.RevocationList{
		Number:     big.NewInt(1),
		ThisUpdate: time.Now().Add(-time.Hour),
		NextUpdate: time.Now().Add(time.Hour),
	}
	for _, serial := range serials {
		entry := x509.RevocationListEntry{SerialNumber: serial, RevocationTime: time.Now()}
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, entry)
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	check(a.t, err)
	check(a.t, os.WriteFile(file, der, 0o600))
}

// trusting is how a client speaks that trusts the authority, and shows a certificate if there is one.
func (a *authority) trusting(cert, key string) *tls.Config {
	a.t.Helper()
	text, err := os.ReadFile(a.file)
	check(a.t, err)
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AppendCertsFromPEM(text)
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		check(a.t, err)
		config.Certificates = []tls.Certificate{pair}
	}
	return config
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	check(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

// secured runs a test against a member of each kind that speaks TLS with its clients.
func secured(t *testing.T, test func(*testing.T, *authority, *server), flags func(*authority) []string) {
	t.Parallel()
	for _, kind := range []string{"cairn", "etcd"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			a := newAuthority(t)
			cert, key, _ := a.issue("server")
			clientCert, clientKey, _ := a.issue("client")
			all := append([]string{"--cert-file", cert, "--key-file", key}, flags(a)...)
			test(t, a, startSecured(t, kind, t.TempDir(), a.trusting(clientCert, clientKey), all...))
		})
	}
}

// letsIn tells whether a client with a certificate is served.
func letsIn(t *testing.T, s *server, config *tls.Config) bool {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{s.url()}, TLS: config, DialTimeout: patience, Logger: zap.NewNop()})
	check(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_, err = client.Get(ctx, "a")
	return err == nil
}

func TestClientsSpeakTLS(t *testing.T) {
	secured(t, func(t *testing.T, a *authority, s *server) {
		_, err := s.client(t).Put(within(t), "a", "1")
		check(t, err)
		// etcdctl, and HTTP in either version.
		found := must(t, run(t, s.etcdctlCommand(t, "--cacert", a.file, "get", "a"), ""))
		equal(t, "etcdctl", found, "a\n1\n")
		for _, http2 := range []bool{false, true} {
			transport := &http.Transport{TLSClientConfig: s.tls.Clone(), ForceAttemptHTTP2: http2}
			web := &http.Client{Transport: transport}
			answer, err := web.Post(s.url()+"/v3/kv/range", "application/json", strings.NewReader(`{"key":"YQ=="}`))
			check(t, err)
			text, err := io.ReadAll(answer.Body)
			check(t, err)
			answer.Body.Close()
			if want := map[bool]int{false: 1, true: 2}[http2]; answer.ProtoMajor != want {
				t.Errorf("HTTP/%d was spoken", answer.ProtoMajor)
			}
			if !strings.Contains(string(text), `"value":"MQ=="`) {
				t.Errorf("the gateway said %s", text)
			}
			transport.CloseIdleConnections()
		}
	}, func(*authority) []string { return nil })
}

func TestClientsShowCertificates(t *testing.T) {
	secured(t, func(t *testing.T, a *authority, s *server) {
		equal(t, "nobody", letsIn(t, s, a.trusting("", "")), false)
		stranger := newAuthority(t)
		cert, key, _ := stranger.issue("stranger")
		equal(t, "a stranger", letsIn(t, s, a.trusting(cert, key)), false)
		cert, key, serial := a.issue("friend")
		equal(t, "a friend", letsIn(t, s, a.trusting(cert, key)), true)
		a.revoke(a.revoked, big.NewInt(77), serial)
		equal(t, "a friend no more", letsIn(t, s, a.trusting(cert, key)), false)
		cert, key, _ = a.issue("another")
		equal(t, "another", letsIn(t, s, a.trusting(cert, key)), true)
	}, func(a *authority) []string {
		a.revoke(a.revoked, big.NewInt(77))
		return []string{"--trusted-ca-file", a.file, "--client-crl-file", a.revoked}
	})
}

func TestNamesOfCertificatesAreLookedAt(t *testing.T) {
	secured(t, func(t *testing.T, a *authority, s *server) {
		cert, key, _ := a.issue("friend")
		equal(t, "a friend", letsIn(t, s, a.trusting(cert, key)), true)
		cert, key, _ = a.issue("other")
		equal(t, "another", letsIn(t, s, a.trusting(cert, key)), false)
	}, func(a *authority) []string {
		names := "client.example,friend.example"
		return []string{"--trusted-ca-file", a.file, "--client-cert-allowed-hostname", names}
	})
}
