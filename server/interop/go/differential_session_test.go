package interop

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	election "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// askWithin is how long an answer may take. None of these questions waits for anything.
const askWithin = 20 * time.Second

// A step is one question. It is asked of one server, and answers with what was asked and what came back, in words that
// are the same for two servers that are the same.
type step func(*talk) exchange

// An exchange is a question and its answer, both masked.
type exchange struct{ question, answer string }

// A talk is with one server that is asked, and what is known of it.
type talk struct {
	kind       string
	binary     string
	folder     string
	log        *os.File
	process    *exec.Cmd
	ended      chan struct{} // closed when it has
	endpoint   string
	connection *grpc.ClientConn
	web        *http.Client
	exchanges  []exchange

	revision    int64 // the highest that a header named
	compacted   int64
	compactions map[int64]bool    // revisions of all of them
	compacting  int64             // what was asked for last
	tokens      map[string]string // by user
	names       *names
	learner     uint64 // the member that was added last
	streams     map[int]*stream
	gateway     *form  // how to ask, if over the JSON gateway
	held        []byte // the key of the lock that was taken last
	leaders     map[string]*election.LeaderKey
}

// open starts a member whose data are in memory, where the system allows it: what is compared is what it says.
func open(t *testing.T, kind string, flags []string) *talk {
	t.Helper()
	parent := ""
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		parent = "/dev/shm"
	}
	folder, err := os.MkdirTemp(parent, "differential-")
	check(t, err)
	log, err := os.Create(filepath.Join(folder, "log"))
	check(t, err)
	s := &talk{
		kind:        kind,
		binary:      map[string]string{"cairn": binaries.cairn, "etcd": binaries.etcd}[kind],
		folder:      folder,
		log:         log,
		ended:       make(chan struct{}),
		endpoint:    freeAddress(t),
		web:         &http.Client{Timeout: askWithin},
		revision:    1,
		tokens:      map[string]string{},
		names:       newNames(),
		compactions: map[int64]bool{},
		streams:     map[int]*stream{},
		leaders:     map[string]*election.LeaderKey{},
	}
	// Both say of themselves that they are elsewhere, in the same words: so members and clusters have the same ids.
	s.process = exec.Command(s.binary, append([]string{
		"--data-dir", filepath.Join(folder, "data"),
		"--listen-client-urls", "http://" + s.endpoint,
		"--advertise-client-urls", "http://127.0.0.1:2379",
		"--listen-peer-urls", "http://" + freeAddress(t),
		"--initial-advertise-peer-urls", "http://127.0.0.1:2380",
		"--initial-cluster", "default=http://127.0.0.1:2380",
		"--heartbeat-interval=20", "--election-timeout=200",
		"--max-request-bytes=20000", "--max-txn-ops=12",
		"--bcrypt-cost=4", "--log-level=warn", "--unsafe-no-fsync",
	}, flags...)...)
	s.process.Env = []string{}
	s.process.Stdout, s.process.Stderr = log, log
	check(t, s.process.Start())
	go func() {
		s.process.Wait()
		close(s.ended)
	}()
	return s
}

// await waits until it serves.
func (s *talk) await(t *testing.T) {
	t.Helper()
	eventually(t, s.kind+" is ready", func() bool {
		answer, err := s.web.Get("http://" + s.endpoint + "/readyz")
		if err != nil {
			return false
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
	// etcd agrees on a version after it serves; until then it answers some questions differently.
	eventually(t, s.kind+" has a version", func() bool {
		answer, err := s.web.Get("http://" + s.endpoint + "/version")
		check(t, err)
		defer answer.Body.Close()
		text := make([]byte, 200)
		count, _ := answer.Body.Read(text)
		return strings.Contains(string(text[:count]), `"etcdcluster":"3.7`)
	})
	connection, err := grpc.NewClient(s.endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
	check(t, err)
	s.connection = connection
}

// close ends the process and leaves nothing behind.
func (s *talk) close() {
	for _, open := range s.streams {
		open.cancel()
	}
	if s.connection != nil {
		s.connection.Close()
	}
	s.web.CloseIdleConnections()
	s.process.Process.Kill()
	<-s.ended
	s.log.Close()
	os.RemoveAll(s.folder)
}

// died is whether it ended by itself, some time after it was asked something.
func (s *talk) died() bool {
	select {
	case <-s.ended:
		return true
	case <-time.After(time.Second):
		return false
	}
}

// ask asks one question after the other.
func (s *talk) ask(steps []step) {
	for _, step := range steps {
		s.exchanges = append(s.exchanges, step(s))
	}
}

// as is a context for a call of a user; of nobody, if it has no name.
func (s *talk) as(user string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), askWithin)
	if user == "" {
		return ctx, cancel
	}
	token, known := s.tokens[user]
	if !known {
		token = user // no token at all
	}
	return metadata.AppendToOutgoingContext(ctx, "token", token), cancel
}

// unary is a step that calls a method. What is asked is made when it is asked, because it may depend on the session;
// learn is told of the answer before that is masked.
func unary(method, user string, request func(*talk) proto.Message, response func() proto.Message, learn func(*talk, proto.Message)) step {
	return func(s *talk) exchange {
		asked := request(s)
		if s.gateway != nil {
			return s.unaryInJSON(method, user, asked, response(), learn)
		}
		question := s.question(method, user, asked)
		ctx, cancel := s.as(user)
		defer cancel()
		answer := response()
		if err := s.connection.Invoke(ctx, method, asked, answer); err != nil {
			return exchange{question, s.refusal(err)}
		}
		s.noteRevision(answer)
		if learn != nil {
			learn(s, answer)
		}
		return exchange{question, s.text(answer)}
	}
}

func (s *talk) question(method, user string, asked proto.Message) string {
	by := ""
	if user != "" {
		by = " as " + user
	}
	return fmt.Sprintf("%s%s {%s}", method[strings.LastIndex(method, ".")+1:], by, s.text(asked))
}

// refusal is code and text of an error.
func (s *talk) refusal(err error) string {
	found := status.Convert(err)
	if found.Code() == codes.DeadlineExceeded {
		return found.Code().String() // the client says so, or the server, whoever is first
	}
	text := fmt.Sprintf("%v: %s", found.Code(), s.names.mask(found.Message()))
	if len(found.Details()) > 0 {
		text += fmt.Sprintf(" %v", found.Details())
	}
	return text
}

// text is a message with everything in it, fields that nobody knows included, but for what is masked.
func (s *talk) text(message proto.Message) string {
	if message == nil {
		return "nothing"
	}
	masked := s.maskMessage(proto.Clone(message))
	// Of how much white space is between fields, protobuf's library makes a point of saying nothing.
	return spaces.ReplaceAllString(s.names.mask(prototext.MarshalOptions{EmitUnknown: true}.Format(masked)), " ")
}

var spaces = regexp.MustCompile(" +")
