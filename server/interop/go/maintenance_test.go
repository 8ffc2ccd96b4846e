package interop

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// history writes what a snapshot must carry: values large and small, deletions, a transaction, leases, and a past that
// is partly compacted.
func history(t *testing.T, client *clientv3.Client) {
	t.Helper()
	// The hash covers the ids of leases, so it is always the same.
	lease, err := clientv3.RetryLeaseClient(client).LeaseGrant(within(t), leaseRequest(4711, 1000))
	check(t, err)
	for i := range 200 {
		put(t, client, fmt.Sprintf("many/%03d", i%120), strings.Repeat("v", i*7))
	}
	put(t, client, "large", strings.Repeat("L", 700_000))
	put(t, client, "binary\x01\xff", "\x00\x01\xfe")
	put(t, client, "leased", "1", clientv3.WithLease(clientv3.LeaseID(lease.ID)))
	for i := range 30 {
		del(t, client, fmt.Sprintf("many/%03d", i*2))
	}
	_, err = client.Txn(within(t)).Then(clientv3.OpPut("txn/1", "1"), clientv3.OpDelete("many/1", clientv3.WithPrefix()), clientv3.OpPut("txn/2", "2")).Commit()
	check(t, err)
	_, err = client.Compact(within(t), 150, clientv3.WithCompactPhysical())
	check(t, err)
	put(t, client, "many/001", "after the compaction")
}

// everything is all that a client can read: each key with its revisions, now and at some revisions of the past, and
// the hash over all of history.
func everything(t *testing.T, s *server) string {
	t.Helper()
	client := s.client(t)
	var text strings.Builder
	now := get(t, client, "", clientv3.WithPrefix())
	for revision := int64(150); revision <= now.Header.Revision; revision += 17 {
		for _, kv := range get(t, client, "", clientv3.WithPrefix(), clientv3.WithRev(revision)).Kvs {
			fmt.Fprintf(&text, "%d %q %d %d %d %x\n", revision, kv.Key, kv.CreateRevision, kv.ModRevision, kv.Version, kv.Lease)
		}
	}
	for _, kv := range now.Kvs {
		fmt.Fprintf(&text, "%q=%q\n", kv.Key, kv.Value)
	}
	hash, err := client.HashKV(within(t), s.endpoint, 0)
	check(t, err)
	fmt.Fprintf(&text, "revision %d hash %d compacted %d\n", now.Header.Revision, hash.Hash, hash.CompactRevision)
	return text.String()
}

// TestASnapshotMovesToEtcd saves a snapshot of Cairn with etcdctl, restores it with etcdutl, and starts etcd on the
// result: nothing may be lost, and the hashes over all of history must agree. That etcd's snapshots come back to life
// in etcd shows that the test asks for no more than there is.
func TestASnapshotMovesToEtcd(t *testing.T) {
	both(t, func(t *testing.T, s *server) {
		client := s.client(t)
		history(t, client)
		file := filepath.Join(t.TempDir(), "snapshot.db")
		output := must(t, s.etcdctl(t, "", "snapshot", "save", file))
		equal(t, "what save says", strings.HasPrefix(output, "Snapshot saved at "+file+"\nServer version 3."), true)

		var status struct {
			Revision  int64  `json:"revision"`
			TotalKey  int64  `json:"totalKey"`
			TotalSize int64  `json:"totalSize"`
			Version   string `json:"version"`
		}
		check(t, json.Unmarshal([]byte(must(t, etcdutl(t, "snapshot", "status", file, "-w", "json"))), &status))
		revision := get(t, client, "leased").Header.Revision
		equal(t, "the revision of the snapshot", status.Revision, revision)
		equal(t, "its version", strings.HasPrefix(status.Version, "3."), true)
		var hash struct {
			Hash uint32 `json:"hash"`
		}
		// Looking at the hash changes the file, so it looks at a copy.
		copied := filepath.Join(t.TempDir(), "copy.db")
		bytes, err := os.ReadFile(file)
		check(t, err)
		check(t, os.WriteFile(copied, bytes, 0o600))
		check(t, json.Unmarshal([]byte(must(t, etcdutl(t, "hashkv", copied, "-w", "json"))), &hash))
		live, err := client.HashKV(within(t), s.endpoint, 0)
		check(t, err)
		equal(t, "the hash of the file", hash.Hash, live.Hash)

		data := filepath.Join(t.TempDir(), "restored")
		want := everything(t, s)
		leases, err := client.Leases(within(t))
		check(t, err)
		// A restored member is another one: its addresses are its own.
		restored := &server{kind: "etcd", binary: binaries.etcd, data: data, endpoint: freeAddress(t), peer: freeAddress(t), log: s.log}
		must(t, etcdutl(t, "snapshot", "restore", file, "--data-dir", data,
			"--initial-cluster", "default=http://"+restored.peer, "--initial-advertise-peer-urls", "http://"+restored.peer))
		t.Cleanup(restored.kill)
		restored.run(t)
		if got := everything(t, restored); got != want {
			t.Fatal(firstDifference(got, want))
		}
		again, err := restored.client(t).Leases(within(t))
		check(t, err)
		equal(t, "the leases", again.Leases, leases.Leases)
		equal(t, "the next revision", put(t, restored.client(t), "next", "1"), revision+1)
	})
}

func etcdutl(t *testing.T, arguments ...string) result {
	t.Helper()
	return run(t, exec.Command(binaries.etcdutl, arguments...), "")
}

// TestHashesAgreeWithEtcds gives Cairn and etcd the same history: then their hashes of it must be the same. All but
// one: for exactly the revision that was compacted to, etcd remembers until it restarts what the compaction computed.
func TestHashesAgreeWithEtcds(t *testing.T) {
	t.Parallel()
	var hashes []string
	for _, kind := range []string{"cairn", "etcd"} {
		s := start(t, kind, t.TempDir())
		client := s.client(t)
		history(t, client)
		text := ""
		for _, revision := range []int64{151, 175, 200, 234, 0} {
			hash, err := client.HashKV(within(t), s.endpoint, revision)
			check(t, err)
			text += fmt.Sprintln(revision, hash.Hash, hash.CompactRevision, hash.HashRevision)
		}
		hashes = append(hashes, text)
	}
	equal(t, "hashes", hashes[0], hashes[1])
}

func TestTheStateOfAMember(t *testing.T) {
	both(t, func(t *testing.T, s *server) {
		client := s.client(t)
		revision := put(t, client, "a", "1")
		status, err := client.Status(within(t), s.endpoint)
		check(t, err)
		equal(t, "the leader", status.Leader, status.Header.MemberId)
		equal(t, "the revision", status.Header.Revision, revision)
		equal(t, "errors", len(status.Errors), 0)
		equal(t, "learner", status.IsLearner, false)
		for what, positive := range map[string]bool{
			"term":          status.RaftTerm > 0,
			"index":         status.RaftIndex > 0,
			"applied index": status.RaftAppliedIndex == status.RaftIndex,
			"size":          status.DbSize >= status.DbSizeInUse && status.DbSizeInUse > 0,
			"quota":         status.DbSizeQuota == 2<<30,
			"version":       strings.HasPrefix(status.Version, "3.7."),
			"storage":       status.StorageVersion == "3.7.0",
		} {
			if !positive {
				t.Errorf("%s is not as it should be in %v", what, status)
			}
		}

		members, err := client.MemberList(within(t))
		check(t, err)
		equal(t, "members", len(members.Members), 1)
		equal(t, "where its clients go", members.Members[0].ClientURLs, []string{"http://" + s.endpoint})
		check(t, client.Sync(within(t)))
		equal(t, "what the client found out", client.Endpoints(), []string{"http://" + s.endpoint})

		table := strings.Split(must(t, s.etcdctl(t, "", "endpoint", "status", "--cluster", "-w", "table")), "\n")
		equal(t, "columns", len(strings.Split(table[1], "│")), 18)
		fields := must(t, s.etcdctl(t, "", "endpoint", "status", "-w", "fields"))
		equal(t, "a field", strings.Contains(fields, `"IsLearner" : false`), true)
		equal(t, "health", strings.Contains(must(t, s.etcdctl(t, "", "endpoint", "health")), "is healthy: successfully committed proposal"), true)
		_, err = client.Defragment(within(t), s.endpoint)
		check(t, err)
		alarms, err := client.AlarmList(within(t))
		check(t, err)
		equal(t, "alarms", len(alarms.Alarms), 0)
	})
}

// TestAFullStoreRefusesWhatWouldGrowIt fills a small quota, and makes room again as etcd's manual says.
func TestAFullStoreRefusesWhatWouldGrowIt(t *testing.T) {
	both(t, func(t *testing.T, s *server) {
		client := s.client(t)
		put(t, client, "first", "1")
		var refused error
		for i := 0; refused == nil && i < 100; i++ {
			_, refused = client.Put(within(t), fmt.Sprintf("fill/%03d", i), strings.Repeat("f", 100_000))
		}
		equal(t, "the refusal", fmt.Sprint(refused), "etcdserver: mvcc: database space exceeded")
		equal(t, "alarms", strings.HasSuffix(must(t, s.etcdctl(t, "", "alarm", "list")), " alarm:NOSPACE\n"), true)
		_, err := client.Put(within(t), "small", "1")
		equal(t, "a small put", fmt.Sprint(err), "etcdserver: mvcc: database space exceeded")
		_, err = client.Grant(within(t), 100)
		equal(t, "a lease", fmt.Sprint(err), "etcdserver: mvcc: database space exceeded")
		equal(t, "health", s.etcdctl(t, "", "endpoint", "health").code, 1)
		equal(t, "reads", get(t, client, "first").Count, 1)

		deleted, err := client.Delete(within(t), "fill/", clientv3.WithPrefix())
		check(t, err)
		_, err = client.Compact(within(t), deleted.Header.Revision, clientv3.WithCompactPhysical())
		check(t, err)
		must(t, s.etcdctl(t, "", "defrag"))
		must(t, s.etcdctl(t, "", "alarm", "disarm"))
		put(t, client, "small", "1")
		must(t, s.etcdctl(t, "", "endpoint", "health"))
	}, "--quota-backend-bytes=2000000")
}

// TestCheckPerf runs etcd's own check of a cluster's speed: 150 writes a second for a minute, while the other tests run.
// Its verdict on the slowest write depends on the machine; that all writes succeed, and the rate, do not.
func TestCheckPerf(t *testing.T) {
	t.Parallel()
	s := start(t, "cairn", t.TempDir())
	command := exec.Command(binaries.etcdctl, "check", "perf", "--load=s", "--auto-compact", "--auto-defrag")
	command.Env = append(os.Environ(), "ETCDCTL_ENDPOINTS="+s.endpoint)
	verdict := run(t, command, "")
	for _, line := range lines(verdict.stdout) {
		if strings.HasPrefix(line, "PASS") || strings.HasPrefix(line, "Slowest") || strings.HasPrefix(line, "Stddev") {
			t.Log(line)
		}
	}
	equal(t, "the rate", strings.Contains(verdict.stdout, "PASS: Throughput"), true)
	equal(t, "errors", strings.Contains(verdict.stdout, "ERROR"), false)
	equal(t, "keys left", get(t, s.client(t), "/etcdctl-check-perf/", clientv3.WithPrefix(), clientv3.WithCountOnly()).Count, 0)
}
