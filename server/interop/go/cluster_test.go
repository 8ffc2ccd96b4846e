package interop

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"
)

// A cluster is several members of one kind.
type cluster struct {
	kind    string
	members []*server
}

// bothClusters runs a test against three members of Cairn, and against three of etcd.
func bothClusters(t *testing.T, test func(*testing.T, *cluster)) {
	t.Parallel()
	for _, kind := range []string{"cairn", "etcd"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			c := &cluster{kind: kind}
			var initial []string
			for n := range 3 {
				member := prepare(t, kind, t.TempDir())
				c.members = append(c.members, member)
				initial = append(initial, fmt.Sprintf("m%d=http://%s", n, member.peer))
			}
			for n, member := range c.members {
				member.more = flagsOf(n, strings.Join(initial, ","), "new")
				member.launch(t)
			}
			for _, member := range c.members {
				member.await(t)
			}
			test(t, c)
		})
	}
}

func flagsOf(number int, initial, state string) []string {
	return []string{
		"--name", fmt.Sprintf("m%d", number),
		"--initial-cluster", initial,
		"--initial-cluster-state", state,
		"--heartbeat-interval", "50", "--election-timeout", "500",
	}
}

func (c *cluster) endpoints() []string {
	var endpoints []string
	for _, member := range c.members {
		endpoints = append(endpoints, member.endpoint)
	}
	return endpoints
}

// client knows all members.
func (c *cluster) client(t *testing.T) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   c.endpoints(),
		DialTimeout: patience,
		Logger:      zap.NewNop(),
	})
	check(t, err)
	t.Cleanup(func() { client.Close() })
	return client
}

// leader waits until all that run agree on one.
func (c *cluster) leader(t *testing.T) *server {
	t.Helper()
	client := c.client(t)
	var leads *server
	eventually(t, "there is a leader", func() bool {
		leads = nil
		agreed := uint64(0)
		for _, member := range c.members {
			status, err := client.Status(within(t), member.endpoint)
			if err != nil || status.Leader == 0 || agreed != 0 && agreed != status.Leader {
				return false
			}
			agreed = status.Leader
			if status.Header.MemberId == agreed {
				leads = member
			}
		}
		return leads != nil
	})
	return leads
}

func (c *cluster) follower(t *testing.T) *server {
	t.Helper()
	leader := c.leader(t)
	return c.members[slices.IndexFunc(c.members, func(m *server) bool { return m != leader })]
}

// etcdctl runs etcdctl with all endpoints.
func (c *cluster) etcdctl(t *testing.T, arguments ...string) result {
	t.Helper()
	command := exec.CommandContext(within(t), binaries.etcdctl, arguments...)
	command.Env = append(os.Environ(), "ETCDCTL_ENDPOINTS="+strings.Join(c.endpoints(), ","))
	return run(t, command, "")
}

func TestAClientFollowsTheLeaders(t *testing.T) {
	bothClusters(t, func(t *testing.T, c *cluster) {
		client := c.client(t)
		watched := client.Watch(clientv3.WithRequireLeader(within(t)), "k", clientv3.WithPrefix())
		for round := range 3 {
			leader := c.leader(t)
			leader.kill()
			key := fmt.Sprintf("k%d", round)
			eventually(t, "another member takes a write", func() bool {
				_, err := client.Put(within(t), key, "v")
				return err == nil
			})
			leader.run(t)
			for _, member := range c.members {
				answer, err := member.client(t).Get(within(t), key)
				check(t, err)
				equal(t, "keys", len(answer.Kvs), 1)
			}
		}
		seen := map[string]bool{}
		for len(seen) < 3 {
			response := <-watched
			if errors.Is(response.Err(), rpctypes.ErrNoLeader) {
				watched = client.Watch(clientv3.WithRequireLeader(within(t)), "k", clientv3.WithPrefix(), clientv3.WithRev(1))
				continue
			}
			check(t, response.Err())
			for _, event := range response.Events {
				seen[string(event.Kv.Key)] = true
			}
		}
	})
}

func TestALockIsKeptWhileLeadershipMoves(t *testing.T) {
	bothClusters(t, func(t *testing.T, c *cluster) {
		session, err := concurrency.NewSession(c.client(t), concurrency.WithTTL(10))
		check(t, err)
		mutex := concurrency.NewMutex(session, "lock")
		check(t, mutex.Lock(within(t)))
		for range 3 {
			leader, follower := c.leader(t), c.follower(t)
			client := leader.client(t)
			status, err := client.Status(within(t), follower.endpoint)
			check(t, err)
			_, err = client.MoveLeader(within(t), status.Header.MemberId)
			check(t, err)
			eventually(t, "it leads", func() bool { return c.leader(t) == follower })
		}
		select {
		case <-session.Done():
			t.Fatal("the session ended")
		default:
		}
		check(t, mutex.Unlock(within(t)))
	})
}

func TestMoveLeader(t *testing.T) {
	bothClusters(t, func(t *testing.T, c *cluster) {
		leader, follower := c.leader(t), c.follower(t)
		status, err := leader.client(t).Status(within(t), leader.endpoint)
		check(t, err)
		target, err := leader.client(t).Status(within(t), follower.endpoint)
		check(t, err)
		from, to := fmt.Sprintf("%x", status.Header.MemberId), fmt.Sprintf("%x", target.Header.MemberId)
		_, err = follower.client(t).MoveLeader(within(t), target.Header.MemberId)
		equal(t, "a follower", err, error(rpctypes.ErrNotLeader))
		_, err = leader.client(t).MoveLeader(within(t), 7)
		equal(t, "a stranger", err, error(rpctypes.ErrBadLeaderTransferee))
		equal(t, "etcdctl", must(t, c.etcdctl(t, "move-leader", to)),
			fmt.Sprintf("Leadership transferred from %s to %s\n", from, to))
		equal(t, "the leader", c.leader(t), follower)
	})
}

func TestEndpointsOfACluster(t *testing.T) {
	bothClusters(t, func(t *testing.T, c *cluster) {
		c.leader(t)
		must(t, c.etcdctl(t, "put", "a", "1"))
		health := must(t, c.etcdctl(t, "endpoint", "health", "--cluster"))
		equal(t, "healthy", strings.Count(health, "is healthy"), 3)
		var statuses []struct {
			Endpoint string
			Status   struct {
				Header struct {
					ClusterID uint64 `json:"cluster_id"`
					MemberID  uint64 `json:"member_id"`
					Revision  int64
				}
				Leader    uint64
				RaftTerm  uint64
				IsLearner bool
			}
		}
		out := must(t, c.etcdctl(t, "endpoint", "status", "--cluster", "-w", "json"))
		check(t, json.Unmarshal([]byte(out), &statuses))
		equal(t, "statuses", len(statuses), 3)
		for _, status := range statuses {
			equal(t, "cluster", status.Status.Header.ClusterID, statuses[0].Status.Header.ClusterID)
			equal(t, "leader", status.Status.Leader, statuses[0].Status.Leader)
		}
		var hashes []struct {
			HashKV struct{ Hash uint32 }
		}
		out = must(t, c.etcdctl(t, "endpoint", "hashkv", "--cluster", "--rev", "2", "-w", "json"))
		check(t, json.Unmarshal([]byte(out), &hashes))
		for _, hash := range hashes {
			equal(t, "hash", hash.HashKV.Hash, hashes[0].HashKV.Hash)
		}
	})
}

func TestAMemberComesAndGoes(t *testing.T) {
	bothClusters(t, func(t *testing.T, c *cluster) {
		c.leader(t)
		added := prepare(t, c.kind, t.TempDir())
		var out string
		// A cluster that has just begun may not be healthy for long enough yet.
		eventually(t, "a learner is added", func() bool {
			r := c.etcdctl(t, "member", "add", "m3", "--learner", "--peer-urls", "http://"+added.peer)
			out = r.stdout
			return r.code == 0
		})
		match := regexp.MustCompile(`^Member +([0-9a-f]+) added as learner to cluster +([0-9a-f]+)\n`).FindStringSubmatch(out)
		if match == nil {
			t.Fatalf("etcdctl said %q", out)
		}
		id := match[1]
		initial := regexp.MustCompile(`ETCD_INITIAL_CLUSTER="([^"]+)"`).FindStringSubmatch(out)[1]
		list := must(t, c.etcdctl(t, "member", "list"))
		equal(t, "unstarted", strings.Contains(list, id+", unstarted, , http://"+added.peer+", , true"), true)
		refused := c.etcdctl(t, "member", "add", "m4", "--learner", "--peer-urls", "http://127.0.0.1:1")
		equal(t, "one learner", strings.Contains(refused.stderr, "etcdserver: too many learner members in cluster"), true)

		added.more = flagsOf(3, initial, "existing")
		added.launch(t)
		eventually(t, "it is promoted", func() bool {
			return c.etcdctl(t, "member", "promote", id).code == 0
		})
		added.await(t)
		again := c.etcdctl(t, "member", "promote", id)
		equal(t, "promoted twice", strings.Contains(again.stderr, "etcdserver: can only promote a learner member"), true)
		list = must(t, c.etcdctl(t, "member", "list"))
		equal(t, "started", strings.Contains(list, id+", started, m3, http://"+added.peer+", http://"+added.endpoint+", false"), true)

		said := must(t, c.etcdctl(t, "member", "remove", id))
		// Ids are padded with spaces.
		if !regexp.MustCompile(`^Member +` + id + ` removed from cluster`).MatchString(said) {
			t.Fatalf("etcdctl said %q", said)
		}
		select {
		case <-added.ended:
		case <-time.After(patience):
			t.Fatal("it goes on")
		}
		gone := c.etcdctl(t, "member", "remove", id)
		equal(t, "removed twice", strings.Contains(gone.stderr, "etcdserver: member not found"), true)
	})
}
