// Package interop holds Cairn against etcd's own clients: clientv3, its recipes, etcdctl and etcdutl, unchanged.
//
// Every test runs twice, against Cairn and against etcd itself, so that a wrong belief about etcd fails as surely as a
// fault of Cairn's. The reader starts here; the other files are one subject each.
package interop

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// binaries are the programs under test and those that test.
var binaries struct{ cairn, etcd, etcdctl, etcdutl string }

// patience is how long anything may take that should take no time at all.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	flag.Parse()
	// The tests mostly wait (for leases, elections, processes), so more of them run at once than there are cores.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	if err := findBinaries(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// findBinaries takes Cairn from the environment, and etcd's programs from the modules that go.mod names, built once and
// kept in Go's cache. ETCD_BIN replaces the etcd of the module.
func findBinaries() error {
	binaries.cairn = os.Getenv("CAIRN_BIN")
	if _, err := os.Stat(binaries.cairn); err != nil {
		return fmt.Errorf("CAIRN_BIN must name a binary of Cairn: %w", err)
	}
	binaries.etcd = os.Getenv("ETCD_BIN")
	for _, tool := range []struct {
		module string
		path   *string
	}{
		{"go.etcd.io/etcd/server/v3", &binaries.etcd},
		{"go.etcd.io/etcd/etcdctl/v3", &binaries.etcdctl},
		{"go.etcd.io/etcd/etcdutl/v3", &binaries.etcdutl},
	} {
		if *tool.path != "" {
			continue
		}
		path, err := exec.Command("go", "tool", "-n", tool.module).Output()
		if err != nil {
			return fmt.Errorf("go tool -n %s: %w", tool.module, err)
		}
		*tool.path = strings.TrimSpace(string(path))
	}
	return nil
}

// A server is one member, Cairn's or etcd's, in a process of its own.
type server struct {
	kind     string // "cairn" or "etcd"
	binary   string
	data     string
	endpoint string
	peer     string
	tls      *tls.Config // how clients speak to it, if not plainly
	more     []string
	log      *os.File
	process  *os.Process
	ended    chan struct{} // closed when the process has ended
}

// both runs a test against a fresh member of Cairn, and against one of etcd. The two run at the same time.
func both(t *testing.T, test func(*testing.T, *server), flags ...string) {
	t.Parallel()
	for _, kind := range []string{"cairn", "etcd"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			test(t, start(t, kind, t.TempDir(), flags...))
		})
	}
}

// start starts a member on ports of its own and waits until it serves.
func start(t *testing.T, kind, data string, flags ...string) *server {
	t.Helper()
	return startSecured(t, kind, data, nil, flags...)
}

// startSecured is the same for clients that speak TLS.
func startSecured(t *testing.T, kind, data string, tls *tls.Config, flags ...string) *server {
	s := prepare(t, kind, data, flags...)
	s.tls = tls
	s.run(t)
	return s
}

// prepare is a member that was not started yet, with ports of its own.
func prepare(t *testing.T, kind, data string, flags ...string) *server {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), kind+".log"))
	check(t, err)
	binary := map[string]string{"cairn": binaries.cairn, "etcd": binaries.etcd}[kind]
	s := &server{kind: kind, binary: binary, data: data, more: flags, log: log}
	s.endpoint, s.peer = freeAddress(t), freeAddress(t)
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("the last lines of %s:\n%s", kind, text[max(0, len(text)-4000):])
		}
		log.Close()
	})
	return s
}

// run starts the process, for the first time or again, and waits until it serves.
func (s *server) run(t *testing.T) {
	t.Helper()
	s.launch(t)
	s.await(t)
}

// launch starts the process.
func (s *server) launch(t *testing.T) {
	t.Helper()
	arguments := []string{
		"--data-dir", s.data,
		"--listen-client-urls", s.url(),
		"--advertise-client-urls", s.url(),
		"--listen-peer-urls", "http://" + s.peer,
		"--initial-advertise-peer-urls", "http://" + s.peer,
		"--initial-cluster", "default=http://" + s.peer,
	}
	command := exec.Command(s.binary, append(arguments, s.more...)...)
	command.Env = []string{} // ETCD_BIN would be taken for a setting
	command.Stdout, command.Stderr = s.log, s.log
	check(t, command.Start())
	ended := make(chan struct{})
	s.process, s.ended = command.Process, ended
	go func() {
		command.Wait()
		close(ended)
	}()
}

// await waits until it serves.
func (s *server) await(t *testing.T) {
	t.Helper()
	ended := s.ended
	eventually(t, s.kind+" serves", func() bool {
		select {
		case <-ended:
			t.Fatalf("%s does not start", s.kind)
		default:
		}
		connection, err := net.Dial("tcp", s.endpoint)
		if err != nil {
			return false
		}
		connection.Close()
		return true
	})
	client := s.client(t)
	var err error
	// Whoever was promoted may be the last to hear of it.
	eventually(t, s.kind+" is a voter", func() bool {
		_, err = client.Get(within(t), "is anybody there")
		return err == nil || !strings.Contains(err.Error(), "not supported for learner")
	})
	check(t, err)
}

// url is where clients find it.
func (s *server) url() string {
	if s.tls != nil {
		return "https://" + s.endpoint
	}
	return "http://" + s.endpoint
}

// kill ends the process as a power cut would: it has no say in it.
func (s *server) kill() {
	if s.process != nil {
		s.process.Kill()
		<-s.ended
	}
}

// client is a new client of the member.
func (s *server) client(t *testing.T) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{s.url()},
		TLS:         s.tls,
		DialTimeout: patience,
		Logger:      zap.NewNop(),
	})
	check(t, err)
	t.Cleanup(func() { client.Close() })
	return client
}

// A result is what a program left behind.
type result struct {
	stdout, stderr string
	code           int
}

// etcdctl runs etcdctl against the member to its end.
func (s *server) etcdctl(t *testing.T, stdin string, arguments ...string) result {
	t.Helper()
	return run(t, s.etcdctlCommand(t, arguments...), stdin)
}

// etcdctlCommand is etcdctl against the member, for whoever wants to talk to it while it runs.
func (s *server) etcdctlCommand(t *testing.T, arguments ...string) *exec.Cmd {
	command := exec.CommandContext(within(t), binaries.etcdctl, arguments...)
	endpoint := s.endpoint
	if s.tls != nil {
		endpoint = s.url()
	}
	command.Env = append(os.Environ(), "ETCDCTL_ENDPOINTS="+endpoint)
	return command
}

// run runs a program to its end.
func run(t *testing.T, command *exec.Cmd, stdin string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(stdin), &stdout, &stderr
	err := command.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", command, err)
	}
	return result{stdout.String(), stderr.String(), command.ProcessState.ExitCode()}
}

// must is the output of a program that succeeds.
func must(t *testing.T, r result) string {
	t.Helper()
	if r.code != 0 {
		t.Fatalf("exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// within is a context that ends with the test, or when patience does.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// equal ends the test where two things differ.
func equal[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		t.Fatalf("%s:\n got %s\nwant %s", what, g, w)
	}
}

// freeAddress is an address on which nobody listens, and that was not given out before: the kernel may name one port twice.
func freeAddress(t *testing.T) string {
	t.Helper()
	for {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		check(t, err)
		address := listener.Addr().String()
		listener.Close()
		if _, given := givenOut.LoadOrStore(address, true); !given {
			return address
		}
	}
}

var givenOut sync.Map
