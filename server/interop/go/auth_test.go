package interop

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// as is a new client of a user; whoever has no name brings no password.
func (s *server) as(t *testing.T, user string) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{s.url()},
		DialTimeout: patience,
		Logger:      zap.NewNop(),
		Username:    user,
		Password:    "pw of " + user,
	})
	check(t, err)
	t.Cleanup(func() { client.Close() })
	return client
}

// people makes root, and ann with a role that may read and write what begins with "app/"; then authentication is
// enabled. The result is root's client.
func people(t *testing.T, s *server) *clientv3.Client {
	t.Helper()
	client := s.client(t)
	for _, name := range []string{"root", "ann", "bob"} {
		_, err := client.UserAdd(within(t), name, "pw of "+name)
		check(t, err)
	}
	_, err := client.UserGrantRole(within(t), "root", "root")
	check(t, err)
	_, err = client.RoleAdd(within(t), "app")
	check(t, err)
	_, err = client.RoleGrantPermission(within(t), "app", "app/", clientv3.GetPrefixRangeEnd("app/"), clientv3.PermissionType(clientv3.PermReadWrite))
	check(t, err)
	_, err = client.UserGrantRole(within(t), "ann", "app")
	check(t, err)
	_, err = client.AuthEnable(within(t))
	check(t, err)
	return s.as(t, "root")
}

func turnedAway(t *testing.T, what string, err, want error) {
	t.Helper()
	if err == nil || err.Error() != want.Error() {
		t.Fatalf("%s: got %v, want %v", what, err, want)
	}
}

// TestUsersDoWhatTheyMay is a session of clientv3, which logs in by itself.
func TestUsersDoWhatTheyMay(t *testing.T) {
	both(t, func(t *testing.T, s *server) {
		root := people(t, s)
		ann, bob := s.as(t, "ann"), s.as(t, "bob")
		put(t, ann, "app/1", "1")
		equal(t, "what ann sees", len(get(t, ann, "app/", clientv3.WithPrefix()).Kvs), 1)
		_, err := ann.Get(within(t), "other")
		turnedAway(t, "another key", err, rpctypes.ErrPermissionDenied)
		_, err = bob.Get(within(t), "app/1")
		turnedAway(t, "another user", err, rpctypes.ErrPermissionDenied)
		_, err = s.client(t).Get(within(t), "app/1")
		turnedAway(t, "nobody", err, rpctypes.ErrUserEmpty)
		_, err = ann.Compact(within(t), 2)
		turnedAway(t, "a compaction", err, rpctypes.ErrPermissionDenied)
		_, err = ann.MemberList(within(t))
		check(t, err)
		_, err = s.client(t).MemberList(within(t))
		turnedAway(t, "a list for nobody", err, rpctypes.ErrUserEmpty)
		_, err = clientv3.New(clientv3.Config{Endpoints: []string{s.url()}, DialTimeout: patience, Logger: zap.NewNop(), Username: "ann", Password: "wrong"})
		turnedAway(t, "a wrong password", err, rpctypes.ErrAuthFailed)
		// Leases belong to those who may write what hangs on them.
		lease, err := root.Grant(within(t), 600)
		check(t, err)
		put(t, root, "other", "1", clientv3.WithLease(lease.ID))
		_, err = ann.Put(within(t), "app/2", "1", clientv3.WithLease(lease.ID))
		turnedAway(t, "a key on another's lease", err, rpctypes.ErrPermissionDenied)
		_, err = ann.Revoke(within(t), lease.ID)
		turnedAway(t, "the end of another's lease", err, rpctypes.ErrPermissionDenied)
		_, err = ann.TimeToLive(within(t), lease.ID, clientv3.WithAttachedKeys())
		turnedAway(t, "the keys of another's lease", err, rpctypes.ErrPermissionDenied)
		// A lease of one's own is kept alive.
		lease, err = ann.Grant(within(t), 5)
		check(t, err)
		put(t, ann, "app/2", "1", clientv3.WithLease(lease.ID))
		_, err = ann.KeepAliveOnce(within(t), lease.ID)
		check(t, err)
		// Watches.
		answer := <-ann.Watch(within(t), "app/", clientv3.WithFromKey())
		if answer.Err() == nil || !strings.Contains(answer.Err().Error(), "permission denied") {
			t.Fatalf("a watch of too much: %v", answer.Err())
		}
		ctx, cancel := context.WithCancel(within(t))
		defer cancel()
		watched := ann.Watch(ctx, "app/", clientv3.WithPrefix(), clientv3.WithRev(2))
		equal(t, "the first event", string((<-watched).Events[0].Kv.Key), "app/1")
		_, err = root.AuthDisable(within(t))
		check(t, err)
		put(t, s.client(t), "other", "2")
	})
}

// TestClientsLogInAnew changes users under a client that goes on: it finds its token refused and logs in again.
func TestClientsLogInAnew(t *testing.T) {
	both(t, func(t *testing.T, s *server) {
		root := people(t, s)
		ann := s.as(t, "ann")
		put(t, ann, "app/1", "1")
		for range 3 {
			_, err := root.RoleGrantPermission(within(t), "app", "more", "", clientv3.PermissionType(clientv3.PermRead))
			check(t, err)
			put(t, ann, "app/1", "2")
			_, err = root.RoleRevokePermission(within(t), "app", "more", "")
			check(t, err)
			get(t, ann, "app/1")
		}
		// Tokens do not outlive the process, passwords do.
		s.kill()
		s.launch(t)
		// A read is tried again while nobody is there; a write is not.
		get(t, ann, "app/1")
		put(t, ann, "app/1", "3")
		_, err := root.UserRevokeRole(within(t), "ann", "app")
		check(t, err)
		_, err = ann.Put(within(t), "app/1", "4")
		turnedAway(t, "without the role", err, rpctypes.ErrPermissionDenied)
		_, err = root.UserDelete(within(t), "ann")
		check(t, err)
		if _, err = ann.Get(within(t), "app/1"); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("without the user: %v", err)
		}
	})
}

// TestSignedTokens has clientv3 and etcdctl use tokens that are signed.
func TestSignedTokens(t *testing.T) {
	folder := t.TempDir()
	secret := filepath.Join(folder, "secret")
	check(t, os.WriteFile(secret, []byte("nobody knows this, or so they say"), 0o600))
	both(t, func(t *testing.T, s *server) {
		people(t, s)
		ann := s.as(t, "ann")
		put(t, ann, "app/1", "1")
		answer, err := s.client(t).Authenticate(within(t), "ann", "pw of ann")
		check(t, err)
		equal(t, "the parts of a token", len(strings.Split(answer.Token, ".")), 3)
		equal(t, "what etcdctl gets", must(t, s.etcdctl(t, "", "--auth-jwt-token", answer.Token, "get", "app/1", "--print-value-only")), "1\n")
	}, "--auth-token", "jwt,sign-method=HS256,ttl=10m,priv-key="+secret)
}

// TestUsersMoveToEtcd restores a snapshot with etcdutl: etcd knows the same users, and their passwords.
func TestUsersMoveToEtcd(t *testing.T) {
	both(t, func(t *testing.T, s *server) {
		root := people(t, s)
		put(t, root, "app/1", "1")
		_, err := root.UserAddWithOptions(within(t), "cid", "", &clientv3.UserAddOptions{NoPassword: true})
		check(t, err)
		before, err := root.AuthStatus(within(t))
		check(t, err)
		file, data := filepath.Join(t.TempDir(), "snapshot.db"), filepath.Join(t.TempDir(), "restored")
		must(t, s.etcdctl(t, "", "--user", "root:pw of root", "snapshot", "save", file))
		restored := &server{kind: "etcd", binary: binaries.etcd, data: data, endpoint: freeAddress(t), peer: freeAddress(t), log: s.log}
		must(t, etcdutl(t, "snapshot", "restore", file, "--data-dir", data,
			"--initial-cluster", "default=http://"+restored.peer, "--initial-advertise-peer-urls", "http://"+restored.peer))
		t.Cleanup(restored.kill)
		restored.launch(t)
		var again *clientv3.Client
		eventually(t, "it serves", func() bool {
			again, err = clientv3.New(clientv3.Config{Endpoints: []string{restored.url()}, DialTimeout: patience, Logger: zap.NewNop(), Username: "root", Password: "pw of root"})
			return err == nil
		})
		defer again.Close()
		after, err := again.AuthStatus(within(t))
		check(t, err)
		equal(t, "what it says of itself", []any{after.Enabled, after.AuthRevision}, []any{true, before.AuthRevision})
		users, err := again.UserList(within(t))
		check(t, err)
		equal(t, "the users", users.Users, []string{"ann", "bob", "cid", "root"})
		role, err := again.RoleGet(within(t), "app")
		check(t, err)
		perm := role.Perm[0]
		equal(t, "what the role may", []string{perm.PermType.String(), string(perm.Key), string(perm.RangeEnd)}, []string{"READWRITE", "app/", "app0"})
		ann := restored.as(t, "ann")
		put(t, ann, "app/1", "2")
		_, err = ann.Get(within(t), "other")
		turnedAway(t, "another key", err, rpctypes.ErrPermissionDenied)
	})
}
