package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// cairn runs one of Cairn's commands to its end.
func cairn(t *testing.T, arguments ...string) result {
	t.Helper()
	return run(t, exec.Command(binaries.cairn, arguments...), "")
}

// hashes is what a member says of its history at some revisions.
func hashes(t *testing.T, s *server) string {
	t.Helper()
	client := s.client(t)
	var text strings.Builder
	last := get(t, client, "none").Header.Revision
	for revision := int64(151); revision <= last; revision += 13 {
		hash, err := client.HashKV(within(t), s.endpoint, revision)
		check(t, err)
		fmt.Fprintln(&text, revision, hash.Hash, hash.CompactRevision, hash.HashRevision)
	}
	return text.String()
}

// leases is all leases with what they were granted and the keys on them.
func leases(t *testing.T, client *clientv3.Client) string {
	t.Helper()
	var text strings.Builder
	all, err := client.Leases(within(t))
	check(t, err)
	for _, lease := range all.Leases {
		told, err := client.TimeToLive(within(t), lease.ID, clientv3.WithAttachedKeys())
		check(t, err)
		fmt.Fprintf(&text, "%x %d %q\n", lease.ID, told.GrantedTTL, told.Keys)
	}
	return text.String()
}

// same checks that a member has what another one had.
func same(t *testing.T, s *server, want, wantHashes, wantLeases string, revision int64) {
	t.Helper()
	if got := everything(t, s); got != want {
		t.Fatal(firstDifference(got, want))
	}
	if got := hashes(t, s); got != wantHashes {
		t.Fatal(firstDifference(got, wantHashes))
	}
	equal(t, "the leases", leases(t, s.client(t)), wantLeases)
	equal(t, "the next revision", put(t, s.client(t), "next", "1"), revision+1)
}

// restoredBy makes a data directory out of a snapshot, and a member of `kind` for it.
func restoredBy(t *testing.T, tool string, kind, file string, log *os.File, more ...string) *server {
	t.Helper()
	data := filepath.Join(t.TempDir(), "restored")
	s := &server{kind: kind, binary: map[string]string{"cairn": binaries.cairn, "etcd": binaries.etcd}[kind], data: data, log: log}
	s.endpoint, s.peer = freeAddress(t), freeAddress(t)
	arguments := append([]string{"snapshot", "restore", file, "--data-dir", data,
		"--initial-cluster", "default=http://" + s.peer, "--initial-advertise-peer-urls", "http://" + s.peer}, more...)
	must(t, run(t, exec.Command(tool, arguments...), ""))
	t.Cleanup(s.kill)
	return s
}

// TestSnapshotsGoBothWays saves a snapshot of either, with either's command, restores it with either's, starts both on
// it where they can, and goes back.
func TestSnapshotsGoBothWays(t *testing.T) {
	both(t, func(t *testing.T, s *server) {
		history(t, s.client(t))
		// etcd remembers what its compactions computed until it starts anew.
		s.kill()
		s.run(t)
		client := s.client(t)
		want, wantHashes, wantLeases := everything(t, s), hashes(t, s), leases(t, client)
		revision := get(t, client, "leased").Header.Revision
		file := filepath.Join(t.TempDir(), "snapshot.db")
		saved := must(t, cairn(t, "snapshot", "save", file, "--endpoints", s.endpoint))
		equal(t, "what save says", strings.HasPrefix(saved, "Snapshot saved at "+file+"\nServer version 3.7."), true)
		for _, format := range []string{"simple", "json", "fields", "table"} {
			status := must(t, etcdutl(t, "snapshot", "status", file, "-w", format))
			equal(t, format, must(t, cairn(t, "snapshot", "status", file, "-w", format)), status)
		}

		restored := restoredBy(t, binaries.cairn, "cairn", file, s.log)
		restored.run(t)
		same(t, restored, want, wantHashes, wantLeases, revision)
		// What it makes of it, it remembers.
		restored.kill()
		restored.run(t)
		equal(t, "what was put", get(t, restored.client(t), "next").Count, 1)
		del(t, restored.client(t), "next")

		byEtcd := restoredBy(t, binaries.etcdutl, "cairn", file, s.log)
		byEtcd.run(t)
		same(t, byEtcd, want, wantHashes, wantLeases, revision)

		back := filepath.Join(t.TempDir(), "back.db")
		must(t, restored.etcdctl(t, "", "snapshot", "save", back))
		wantHashes, revision = hashes(t, restored), revision+2
		want = everything(t, restored)
		etcd := restoredBy(t, binaries.etcdutl, "etcd", back, s.log)
		etcd.run(t)
		same(t, etcd, want, wantHashes, wantLeases, revision)
	})
}

// TestADamagedSnapshotIsRefused checks what is said about files that cannot be restored.
func TestADamagedSnapshotIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, "etcd", t.TempDir())
	history(t, s.client(t))
	file := filepath.Join(t.TempDir(), "snapshot.db")
	must(t, s.etcdctl(t, "", "snapshot", "save", file))
	whole, err := os.ReadFile(file)
	check(t, err)
	for name, test := range map[string]struct {
		bytes []byte
		flags []string
		why   string
	}{
		"one bit":     {append([]byte{whole[0] ^ 1}, whole[1:]...), nil, "expected sha256"},
		"no checksum": {whole[:len(whole)-32], nil, "snapshot missing hash but --skip-hash-check=false"},
		"cut":         {whole[:8192], []string{"--skip-hash-check"}, "it ends before its last page"},
		"empty":       {nil, []string{"--skip-hash-check"}, "this is no database of etcd's"},
		"half a bump": {whole, []string{"--bump-revision", "5"}, "--mark-compacted required if --revision-bump > 0"},
	} {
		harmed, data := filepath.Join(t.TempDir(), "harmed.db"), filepath.Join(t.TempDir(), "data")
		check(t, os.WriteFile(harmed, test.bytes, 0o600))
		refused := cairn(t, append([]string{"snapshot", "restore", harmed, "--data-dir", data}, test.flags...)...)
		if refused.code == 0 || !strings.Contains(refused.stderr, test.why) {
			t.Errorf("%s: %+v", name, refused)
		}
		if _, err := os.Stat(data); err == nil {
			t.Errorf("%s: there is a directory", name)
		}
	}
}

// TestABumpedRevisionIsTheSame restores with a higher revision, by etcdutl and by Cairn.
func TestABumpedRevisionIsTheSame(t *testing.T) {
	t.Parallel()
	s := start(t, "etcd", t.TempDir())
	history(t, s.client(t))
	file := filepath.Join(t.TempDir(), "snapshot.db")
	must(t, s.etcdctl(t, "", "snapshot", "save", file))
	keys := func(s *server) string {
		var text strings.Builder
		all := get(t, s.client(t), "", clientv3.WithPrefix())
		for _, kv := range all.Kvs {
			fmt.Fprintf(&text, "%q %d %d %d\n", kv.Key, kv.CreateRevision, kv.ModRevision, kv.Version)
		}
		_, err := s.client(t).Get(within(t), "leased", clientv3.WithRev(all.Header.Revision-1))
		fmt.Fprintln(&text, all.Header.Revision, err)
		return text.String()
	}
	bump := []string{"--bump-revision", "1000000", "--mark-compacted"}
	var found []string
	for _, tool := range []string{binaries.etcdutl, binaries.cairn} {
		restored := restoredBy(t, tool, "cairn", file, s.log, bump...)
		restored.run(t)
		found = append(found, keys(restored))
	}
	etcd := restoredBy(t, binaries.etcdutl, "etcd", file, s.log, bump...)
	etcd.run(t)
	for _, text := range found {
		equal(t, "keys", text, keys(etcd))
	}
}

// TestADirectoryOfEtcdIsTakenOver starts Cairn where etcd stopped, in good order or not.
func TestADirectoryOfEtcdIsTakenOver(t *testing.T) {
	for name, stop := range map[string]syscall.Signal{"stopped": syscall.SIGTERM, "killed": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, "etcd", t.TempDir())
			client := s.client(t)
			history(t, client)
			user(t, client)
			// What comes now is in the log only, until etcd stops in good order.
			s.kill()
			s.more = []string{"--backend-batch-interval", "1h", "--backend-batch-limit", "1000000"}
			s.run(t)
			afterwards(t, s.client(t))

			refused := cairn(t, "--data-dir", s.data)
			equal(t, "while etcd runs", refused.code != 0 && strings.Contains(refused.stderr, "stop etcd before"), true)
			// What an import that was interrupted leaves behind.
			check(t, os.MkdirAll(filepath.Join(s.data, "snap"), 0o700))
			check(t, os.WriteFile(filepath.Join(s.data, "snap", "ffffffffffffffff.snap"), []byte("half"), 0o600))
			check(t, s.process.Signal(stop))
			<-s.ended

			// What etcd makes of it, it says when it is started on a copy.
			copied := *s
			copied.data, copied.more = filepath.Join(t.TempDir(), "copy"), nil
			check(t, os.CopyFS(copied.data, os.DirFS(s.data)))
			check(t, os.RemoveAll(filepath.Join(copied.data, "snap")))
			copied.run(t)
			t.Cleanup(copied.kill)
			client = copied.client(t)
			want, wantHashes, wantLeases := everything(t, &copied), hashes(t, &copied), leases(t, client)
			revision := get(t, client, "leased").Header.Revision
			members, err := client.MemberList(within(t))
			check(t, err)
			copied.kill()

			s.kind, s.binary, s.more = "cairn", binaries.cairn, nil
			s.run(t)
			same(t, s, want, wantHashes, wantLeases, revision)
			now, err := s.client(t).MemberList(within(t))
			check(t, err)
			equal(t, "the cluster", now.Header.ClusterId, members.Header.ClusterId)
			equal(t, "the member", fmt.Sprint(now.Members), fmt.Sprint(members.Members))
			users, err := s.client(t).UserGet(within(t), "ann")
			check(t, err)
			equal(t, "a user", users.Roles, []string{"reader"})
			// etcd's files are of no use any more.
			check(t, os.RemoveAll(filepath.Join(s.data, "member")))
			s.kill()
			s.run(t)
			equal(t, "what was put", get(t, s.client(t), "next").Count, 1)
		})
	}
}

// afterwards is what a log must carry that no database has seen.
func afterwards(t *testing.T, client *clientv3.Client) {
	t.Helper()
	for i := range 50 {
		put(t, client, fmt.Sprintf("late/%02d", i%20), strings.Repeat("l", i*100))
	}
	lease, err := clientv3.RetryLeaseClient(client).LeaseGrant(within(t), leaseRequest(4712, 500))
	check(t, err)
	put(t, client, "late/leased", "1", clientv3.WithLease(clientv3.LeaseID(lease.ID)))
	put(t, client, "leased", "2", clientv3.WithIgnoreLease())
	short, err := client.Grant(within(t), 900)
	check(t, err)
	put(t, client, "late/gone", "1", clientv3.WithLease(short.ID))
	_, err = client.Revoke(within(t), short.ID)
	check(t, err)
	_, err = client.Txn(within(t)).If(clientv3.Compare(clientv3.Version("late/01"), ">", 1)).
		Then(clientv3.OpPut("late/then", "1"), clientv3.OpDelete("late/0", clientv3.WithPrefix())).
		Else(clientv3.OpPut("late/else", "1")).Commit()
	check(t, err)
	del(t, client, "many/001")
	_, err = client.Put(within(t), "late/refused", "", clientv3.WithLease(1))
	equal(t, "a lease that is not there", err != nil, true)
}

// user adds one, with a role.
func user(t *testing.T, client *clientv3.Client) {
	t.Helper()
	_, err := client.RoleAdd(within(t), "reader")
	check(t, err)
	_, err = client.RoleGrantPermission(within(t), "reader", "a", "b", clientv3.PermissionType(clientv3.PermRead))
	check(t, err)
	_, err = client.UserAdd(within(t), "ann", "secret")
	check(t, err)
	_, err = client.UserGrantRole(within(t), "ann", "reader")
	check(t, err)
}

// TestThreeMembersBeginWithASnapshot restores one file into three directories, by Cairn and by etcdutl, and refuses
// what three members of etcd leave behind that have served.
func TestThreeMembersBeginWithASnapshot(t *testing.T) {
	t.Parallel()
	s := start(t, "etcd", t.TempDir())
	history(t, s.client(t))
	s.kill()
	s.run(t)
	want, wantLeases := hashes(t, s), leases(t, s.client(t))
	file := filepath.Join(t.TempDir(), "snapshot.db")
	must(t, s.etcdctl(t, "", "snapshot", "save", file))
	for _, test := range []struct{ name, tool, kind string }{
		{"restored by Cairn", binaries.cairn, "cairn"},
		{"restored by etcdutl", binaries.etcdutl, "cairn"},
		{"left by etcd", binaries.etcdutl, "etcd"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := &cluster{kind: test.kind}
			var initial []string
			for n := range 3 {
				member := prepare(t, test.kind, filepath.Join(t.TempDir(), "data"))
				c.members = append(c.members, member)
				initial = append(initial, fmt.Sprintf("m%d=http://%s", n, member.peer))
			}
			for n, member := range c.members {
				member.more = flagsOf(n, strings.Join(initial, ","), "new")
				must(t, run(t, exec.Command(test.tool, "snapshot", "restore", file, "--data-dir", member.data,
					"--name", fmt.Sprintf("m%d", n), "--initial-cluster", strings.Join(initial, ","),
					"--initial-advertise-peer-urls", "http://"+member.peer), ""))
				member.launch(t)
			}
			for _, member := range c.members {
				member.await(t)
			}
			c.leader(t)
			for _, member := range c.members {
				equal(t, "hashes", hashes(t, member), want)
			}
			equal(t, "leases", leases(t, c.client(t)), wantLeases)
			put(t, c.client(t), "next", "1")
			members, err := c.client(t).MemberList(within(t))
			check(t, err)
			equal(t, "members", len(members.Members), 3)
			if test.kind == "etcd" {
				member := c.members[0]
				check(t, member.process.Signal(syscall.SIGTERM))
				<-member.ended
				refused := cairn(t, "--data-dir", member.data)
				equal(t, "the refusal", refused.code != 0 && strings.Contains(refused.stderr, "it is of a cluster of 3 members"), true)
				_, err := os.Stat(filepath.Join(member.data, "FORMAT"))
				equal(t, "nothing was written", os.IsNotExist(err), true)
				// By the word of the operator it goes on alone, with what is known to be committed.
				alone := *member
				alone.kind, alone.binary, alone.data = "cairn", binaries.cairn, filepath.Join(t.TempDir(), "alone")
				check(t, os.CopyFS(alone.data, os.DirFS(member.data)))
				for _, other := range c.members {
					other.kill()
				}
				alone.more = append(alone.more, "--force-new-cluster")
				alone.run(t)
				t.Cleanup(alone.kill)
				now := get(t, alone.client(t), "next")
				equal(t, "what was put", now.Count, 1)
				put(t, alone.client(t), "alone", "1")
				members, err := alone.client(t).MemberList(within(t))
				check(t, err)
				equal(t, "members", len(members.Members), 1)
			}
		})
	}
}
