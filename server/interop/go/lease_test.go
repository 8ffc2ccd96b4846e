package interop

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestLeasesLiveAsLongAsTheyAreKept(t *testing.T) {
	both(t, func(t *testing.T, s *server) {
		client := s.client(t)
		kept, err := client.Grant(within(t), 2)
		check(t, err)
		asked := time.Now()
		left, err := client.Grant(within(t), 2)
		check(t, err)
		put(t, client, "kept", "1", clientv3.WithLease(kept.ID))
		revision := put(t, client, "left/b", "1", clientv3.WithLease(left.ID))
		put(t, client, "left/a", "1", clientv3.WithLease(left.ID))

		remaining, err := client.TimeToLive(within(t), left.ID, clientv3.WithAttachedKeys())
		check(t, err)
		equal(t, "granted", remaining.GrantedTTL, 2)
		equal(t, "keys", len(remaining.Keys), 2)
		if remaining.TTL < 0 || remaining.TTL > 2 {
			t.Fatalf("%d seconds remain of 2", remaining.TTL)
		}

		renewals, err := client.KeepAlive(within(t), kept.ID)
		check(t, err)
		watch := client.Watch(within(t), "left/", clientv3.WithPrefix(), clientv3.WithRev(revision+2))
		died := <-watch
		if after := time.Since(asked); after < 2*time.Second || after > 10*time.Second {
			t.Errorf("a lease of two seconds lived for %v", after)
		}
		// Its keys go in one revision, in their order.
		equal(t, "events", describe(died.Events), []string{fmt.Sprintf("DELETE left/a=@%d", revision+2), fmt.Sprintf("DELETE left/b=@%d", revision+2)})

		gone, err := client.TimeToLive(within(t), left.ID)
		check(t, err)
		equal(t, "what remains of it", gone.TTL, -1)
		_, err = client.KeepAliveOnce(within(t), left.ID)
		equal(t, "renewed too late", errors.Is(err, rpctypes.ErrLeaseNotFound), true)
		_, err = client.Put(within(t), "late", "1", clientv3.WithLease(left.ID))
		equal(t, "used too late", errors.Is(err, rpctypes.ErrLeaseNotFound), true)

		renewal := <-renewals
		equal(t, "renewed for", renewal.TTL, 2)
		equal(t, "keys that are kept", get(t, client, "kept").Count, 1)
		leases, err := client.Leases(within(t))
		check(t, err)
		equal(t, "leases", fmt.Sprint(leases.Leases), fmt.Sprint([]clientv3.LeaseStatus{{ID: kept.ID}}))
		_, err = client.Revoke(within(t), kept.ID)
		check(t, err)
		equal(t, "keys of a revoked lease", get(t, client, "kept").Count, 0)
	})
}

func TestLeasesHaveTheIdThatIsAskedFor(t *testing.T) {
	both(t, func(t *testing.T, s *server) {
		client := s.client(t)
		for _, want := range []clientv3.LeaseID{77, -5} {
			api := clientv3.RetryLeaseClient(client)
			granted, err := api.LeaseGrant(within(t), leaseRequest(want, 100))
			check(t, err)
			equal(t, "id", granted.ID, int64(want))
			equal(t, "ttl", granted.TTL, 100)
		}
		list := must(t, s.etcdctl(t, "", "lease", "list"))
		equal(t, "list", strings.Fields(list)[:3], []string{"found", "2", "leases"})

		// A lease outlives the process.
		put(t, client, "leased", "1", clientv3.WithLease(77))
		s.kill()
		s.run(t)
		kept, err := s.client(t).TimeToLive(within(t), 77, clientv3.WithAttachedKeys())
		check(t, err)
		equal(t, "after a crash", fmt.Sprintf("%d %s", kept.GrantedTTL, kept.Keys), "100 [leased]")
	})
}

func TestEtcdctlKeepsALeaseAlive(t *testing.T) {
	both(t, func(t *testing.T, s *server) {
		lease, err := s.client(t).Grant(within(t), 3)
		check(t, err)
		id := fmt.Sprintf("%016x", int64(lease.ID))
		keeper := s.etcdctlCommand(t, "lease", "keep-alive", id)
		output, err := keeper.StdoutPipe()
		check(t, err)
		check(t, keeper.Start())
		lines := readLines(output)
		equal(t, "first line", <-lines, "lease "+id+" keepalived with TTL(3)")
		equal(t, "second line", <-lines, "lease "+id+" keepalived with TTL(3)")
		remaining := must(t, s.etcdctl(t, "", "lease", "timetolive", id, "--keys"))
		if !strings.HasPrefix(remaining, "lease "+id+" granted with TTL(3s), remaining(") {
			t.Fatal(remaining)
		}
		must(t, s.etcdctl(t, "", "lease", "revoke", id))
		equal(t, "last line", <-lines, "lease "+id+" expired or revoked.")
		check(t, keeper.Wait())
	})
}
