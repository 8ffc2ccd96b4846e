package interop

import (
	"context"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	election "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	lock "go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// grant makes a lease that outlives the test.
func grant(t *testing.T, client *clientv3.Client) int64 {
	t.Helper()
	granted, err := client.Grant(within(t), 100)
	check(t, err)
	return int64(granted.ID)
}

// refused checks the code and text of an error.
func refused(t *testing.T, err error, want string) {
	t.Helper()
	found := status.Convert(err)
	if got := fmt.Sprintf("%v: %s", found.Code(), found.Message()); got != want {
		t.Errorf("refused with %q instead of %q", got, want)
	}
}

// lineIs waits until there are so many keys under a prefix.
func lineIs(t *testing.T, client *clientv3.Client, prefix string, count int64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d keys under %s", count, prefix), func() bool {
		found, err := client.Get(within(t), prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
		check(t, err)
		return found.Count == count
	})
}

func TestTheLockServiceGivesALockToTheOldestKey(t *testing.T) {
	both(t, func(t *testing.T, s *server) {
		client := s.client(t)
		locks := lock.NewLockClient(client.ActiveConnection())
		first, second := grant(t, client), grant(t, client)
		held, err := locks.Lock(within(t), &lock.LockRequest{Name: []byte("l"), Lease: first})
		check(t, err)
		if want := fmt.Sprintf("l/%x", first); string(held.Key) != want || held.Header.Revision != 2 {
			t.Errorf("%s at revision %d", held.Key, held.Header.Revision)
		}
		again, err := locks.Lock(within(t), &lock.LockRequest{Name: []byte("l"), Lease: first})
		check(t, err)
		if string(again.Key) != string(held.Key) || again.Header.Revision != 2 {
			t.Errorf("again: %s at revision %d", again.Key, again.Header.Revision)
		}

		short, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		_, err = locks.Lock(short, &lock.LockRequest{Name: []byte("l"), Lease: second})
		// The words are the client's, by what it hears first: its own clock, or the server, which knows the deadline, too.
		if got := status.Code(err); got != codes.DeadlineExceeded {
			t.Errorf("refused with %v", err)
		}
		lineIs(t, client, "l/", 1)

		done := make(chan *lock.LockResponse, 1)
		go func() {
			got, err := locks.Lock(within(t), &lock.LockRequest{Name: []byte("l"), Lease: second})
			if err != nil {
				t.Error(err)
			}
			done <- got
		}()
		lineIs(t, client, "l/", 2)
		_, err = locks.Unlock(within(t), &lock.UnlockRequest{Key: held.Key})
		check(t, err)
		if got := <-done; got.Header.Revision != 6 {
			t.Errorf("the lock came at revision %d", got.Header.Revision)
		}

		_, err = locks.Lock(within(t), &lock.LockRequest{Name: []byte("l"), Lease: 99})
		refused(t, err, "Unknown: etcdserver: requested lease not found")
		_, err = locks.Unlock(within(t), &lock.UnlockRequest{})
		refused(t, err, "Unknown: etcdserver: key is not provided")
		free, err := locks.Lock(within(t), &lock.LockRequest{Name: []byte("free")})
		check(t, err)
		found, err := client.Get(within(t), string(free.Key))
		check(t, err)
		left, err := client.TimeToLive(within(t), clientv3.LeaseID(found.Kvs[0].Lease))
		check(t, err)
		if left.GrantedTTL != 60 || string(free.Key) != fmt.Sprintf("free/%x", found.Kvs[0].Lease) {
			t.Errorf("%s for %d s", free.Key, left.GrantedTTL)
		}
	})
}

func TestALockWhoseLeaseEndsIsLost(t *testing.T) {
	both(t, func(t *testing.T, s *server) {
		client := s.client(t)
		locks := lock.NewLockClient(client.ActiveConnection())
		first, second := grant(t, client), grant(t, client)
		held, err := locks.Lock(within(t), &lock.LockRequest{Name: []byte("l"), Lease: first})
		check(t, err)
		done := make(chan error, 1)
		go func() {
			_, err := locks.Lock(within(t), &lock.LockRequest{Name: []byte("l"), Lease: second})
			done <- err
		}()
		lineIs(t, client, "l/", 2)
		_, err = client.Revoke(within(t), clientv3.LeaseID(second))
		check(t, err)
		_, err = locks.Unlock(within(t), &lock.UnlockRequest{Key: held.Key})
		check(t, err)
		refused(t, <-done, "Unknown: mutex: session is expired")
	})
}

func TestTheElectionServiceElects(t *testing.T) {
	both(t, func(t *testing.T, s *server) {
		client := s.client(t)
		elections := election.NewElectionClient(client.ActiveConnection())
		name := []byte("e")
		_, err := elections.Leader(within(t), &election.LeaderRequest{Name: name})
		refused(t, err, "Unknown: election: no leader")
		observed, err := elections.Observe(within(t), &election.LeaderRequest{Name: name})
		check(t, err)
		first, second := grant(t, client), grant(t, client)
		campaign := func(lease int64, value string) *election.CampaignResponse {
			won, err := elections.Campaign(
				within(t), &election.CampaignRequest{Name: name, Lease: lease, Value: []byte(value)})
			if err != nil {
				t.Error(err)
			}
			return won
		}
		won := campaign(first, "one")
		if won.Leader.Rev != 2 || won.Leader.Lease != first || won.Header.Revision != 2 {
			t.Errorf("won %v at %d", won.Leader, won.Header.Revision)
		}
		// Again, with something else to say: the header is that of the first step.
		if again := campaign(first, "uno"); again.Leader.Rev != 2 || again.Header.Revision != 2 {
			t.Errorf("won again %v at %d", again.Leader, again.Header.Revision)
		}
		next := make(chan *election.CampaignResponse, 1)
		go func() { next <- campaign(second, "two") }()
		lineIs(t, client, "e/", 2)
		said, err := elections.Proclaim(
			within(t), &election.ProclaimRequest{Leader: won.Leader, Value: []byte("un")})
		check(t, err)
		if said.Header.Revision != 5 {
			t.Errorf("proclaimed at %d", said.Header.Revision)
		}
		_, err = elections.Resign(within(t), &election.ResignRequest{Leader: won.Leader})
		check(t, err)
		// The header is that of the transaction that got in line.
		if won := <-next; won.Leader.Rev != 4 || won.Header.Revision != 4 {
			t.Errorf("won %v at %d", won.Leader, won.Header.Revision)
		}
		for _, want := range []string{"one at 2", "uno at 3", "un at 5", "two at 4"} {
			seen, err := observed.Recv()
			check(t, err)
			if got := fmt.Sprintf("%s at %d", seen.Kv.Value, seen.Kv.ModRevision); got != want {
				t.Errorf("observed %q instead of %q", got, want)
			}
		}

		_, err = elections.Resign(within(t), &election.ResignRequest{Leader: won.Leader})
		check(t, err)
		_, err = elections.Proclaim(within(t), &election.ProclaimRequest{Leader: won.Leader})
		refused(t, err, "Unknown: election: not leader")
		_, err = elections.Proclaim(within(t), &election.ProclaimRequest{})
		refused(t, err, `Unknown: "leader" field must be provided`)
		_, err = elections.Resign(within(t), &election.ResignRequest{})
		refused(t, err, `Unknown: "leader" field must be provided`)
	})
}
