package interop

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

func session(t *testing.T, client *clientv3.Client, ttl int) *concurrency.Session {
	t.Helper()
	session, err := concurrency.NewSession(client, concurrency.WithTTL(ttl))
	check(t, err)
	return session
}

func TestAMutexIsHeldByOneAtATime(t *testing.T) {
	both(t, func(t *testing.T, s *server) {
		var (
			group   sync.WaitGroup
			inside  int // the mutex of the store is all that protects it
			entered int
		)
		for range 5 {
			client := s.client(t)
			group.Go(func() {
				session, err := concurrency.NewSession(client, concurrency.WithTTL(30))
				if err != nil {
					t.Error(err)
					return
				}
				defer session.Close()
				mutex := concurrency.NewMutex(session, "/mutex")
				for range 5 {
					if err := mutex.Lock(within(t)); err != nil {
						t.Error(err)
						return
					}
					inside++
					if inside != 1 {
						t.Errorf("%d hold the mutex", inside)
					}
					entered++
					time.Sleep(time.Millisecond)
					inside--
					if err := mutex.Unlock(within(t)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
		equal(t, "times that it was held", entered, 25)

		client := s.client(t)
		holder, other := session(t, client, 30), session(t, client, 30)
		held := concurrency.NewMutex(holder, "/mutex")
		check(t, held.Lock(within(t)))
		wanted := concurrency.NewMutex(other, "/mutex")
		equal(t, "what is locked", wanted.TryLock(within(t)), concurrency.ErrLocked)
		short, cancel := context.WithTimeout(within(t), 50*time.Millisecond)
		defer cancel()
		equal(t, "waiting in vain", errors.Is(wanted.Lock(short), context.DeadlineExceeded), true)
		// Whoever dies gives up what they hold.
		check(t, holder.Close())
		check(t, wanted.Lock(within(t)))
		response, err := client.Txn(within(t)).If(wanted.IsOwner()).Then(clientv3.OpPut("guarded", "1")).Commit()
		check(t, err)
		equal(t, "a write under the lock", response.Succeeded, true)
		check(t, wanted.Unlock(within(t)))
	})
}

func TestElections(t *testing.T) {
	both(t, func(t *testing.T, s *server) {
		client := s.client(t)
		first := concurrency.NewElection(session(t, client, 30), "/election")
		secondSession := session(t, client, 30)
		second := concurrency.NewElection(secondSession, "/election")
		_, err := first.Leader(within(t))
		equal(t, "before anybody stood", err, concurrency.ErrElectionNoLeader)
		observed := first.Observe(within(t))
		leader := func() string {
			response, more := <-observed
			if !more {
				t.Fatal("nothing more to observe")
			}
			return string(response.Kvs[0].Value)
		}

		check(t, first.Campaign(within(t), "first"))
		equal(t, "the leader", leader(), "first")
		elected := make(chan error, 1)
		go func() { elected <- second.Campaign(within(t), "second") }()
		check(t, first.Proclaim(within(t), "still the first"))
		equal(t, "the leader", leader(), "still the first")
		select {
		case <-elected:
			t.Fatal("two leaders")
		case <-time.After(50 * time.Millisecond):
		}
		check(t, first.Resign(within(t)))
		check(t, <-elected)
		equal(t, "the leader", leader(), "second")
		equal(t, "one who is not", first.Proclaim(within(t), "again"), concurrency.ErrElectionNotLeader)
		check(t, secondSession.Close())
		_, err = second.Leader(within(t))
		equal(t, "after all have gone", err, concurrency.ErrElectionNoLeader)
	})
}

func TestSoftwareTransactionsKeepASum(t *testing.T) {
	both(t, func(t *testing.T, s *server) {
		const accounts, start = 4, 100
		client := s.client(t)
		account := func(i int) string { return fmt.Sprintf("account/%d", i) }
		for i := range accounts {
			put(t, client, account(i), strconv.Itoa(start))
		}
		var group sync.WaitGroup
		for worker := range 4 {
			level := []concurrency.Isolation{concurrency.SerializableSnapshot, concurrency.Serializable, concurrency.RepeatableReads}[worker%3]
			group.Go(func() {
				for i := range 15 {
					from, to := account((worker+i)%accounts), account((worker+2*i+1)%accounts)
					_, err := concurrency.NewSTM(client, func(stm concurrency.STM) error {
						if from == to {
							return nil
						}
						a, _ := strconv.Atoi(stm.Get(from))
						b, _ := strconv.Atoi(stm.Get(to))
						stm.Put(from, strconv.Itoa(a-1))
						stm.Put(to, strconv.Itoa(b+1))
						return nil
					}, concurrency.WithIsolation(level))
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
		sum := 0
		for _, kv := range get(t, client, "account/", clientv3.WithPrefix()).Kvs {
			balance, err := strconv.Atoi(string(kv.Value))
			check(t, err)
			sum += balance
		}
		equal(t, "the sum", sum, accounts*start)
	})
}

func TestEtcdctlLocksAndElects(t *testing.T) {
	both(t, func(t *testing.T, s *server) {
		client := s.client(t)
		equal(t, "a command under a lock", must(t, s.etcdctl(t, "", "lock", "name", "--", "sh", "-c", "echo held $ETCD_LOCK_KEY | cut -d/ -f1")), "held name\n")
		equal(t, "the command's exit code", s.etcdctl(t, "", "lock", "name", "--", "sh", "-c", "exit 7").code, 7)

		holder := s.etcdctlCommand(t, "lock", "name")
		output, err := holder.StdoutPipe()
		check(t, err)
		check(t, holder.Start())
		key := <-readLines(output)
		equal(t, "the key", strings.HasPrefix(key, "name/"), true)
		equal(t, "its lease", get(t, client, key).Kvs[0].Lease != 0, true)
		waiter := s.etcdctlCommand(t, "lock", "name", "echo", "mine")
		waiting, err := waiter.StdoutPipe()
		check(t, err)
		check(t, waiter.Start())
		printed := readLines(waiting)
		eventually(t, "both stand in the queue", func() bool {
			return get(t, client, "name/", clientv3.WithPrefix()).Count == 2
		})
		equal(t, "what the second has", len(printed), 0)
		check(t, holder.Process.Signal(syscall.SIGINT))
		equal(t, "after the first has gone", <-printed, "mine")
		check(t, waiter.Wait())
		holder.Wait()

		candidate := s.etcdctlCommand(t, "elect", "office", "me")
		output, err = candidate.StdoutPipe()
		check(t, err)
		check(t, candidate.Start())
		printed = readLines(output)
		equal(t, "the key", strings.HasPrefix(<-printed, "office/"), true)
		equal(t, "the proposal", <-printed, "me")
		observer := s.etcdctlCommand(t, "elect", "--listen", "office")
		output, err = observer.StdoutPipe()
		check(t, err)
		check(t, observer.Start())
		printed = readLines(output)
		equal(t, "the key", strings.HasPrefix(<-printed, "office/"), true)
		equal(t, "the leader", <-printed, "me")
		observer.Process.Kill()
		observer.Wait()
		check(t, candidate.Process.Signal(syscall.SIGINT))
		candidate.Wait()
		equal(t, "candidates left", get(t, client, "office/", clientv3.WithPrefix()).Count, 0)
	})
}
