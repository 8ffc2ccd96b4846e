package interop

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// leaseRequest asks for a lease with an id, which clientv3 has no way to.
func leaseRequest(id clientv3.LeaseID, ttl int64) *pb.LeaseGrantRequest {
	return &pb.LeaseGrantRequest{ID: int64(id), TTL: ttl}
}

// readLines are the lines of a program as it writes them. The channel is closed when it has no more to say.
func readLines(from io.Reader) <-chan string {
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(from); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	return lines
}

// events are the next events of a watch, as text.
func events(t *testing.T, watch clientv3.WatchChan, count int) []string {
	t.Helper()
	var found []string
	for len(found) < count {
		select {
		case response, more := <-watch:
			if !more {
				t.Fatalf("the watch ended after %v", found)
			}
			check(t, response.Err())
			found = append(found, describe(response.Events)...)
		case <-time.After(patience):
			t.Fatalf("the watch is silent after %v", found)
		}
	}
	return found
}

// describe is what a reader wants to know of events.
func describe(events []*clientv3.Event) []string {
	var found []string
	for _, event := range events {
		text := fmt.Sprintf("%v %s=%s@%d", event.Type, event.Kv.Key, event.Kv.Value, event.Kv.ModRevision)
		if event.PrevKv != nil {
			text += fmt.Sprintf(" was %s@%d", event.PrevKv.Value, event.PrevKv.ModRevision)
		}
		found = append(found, text)
	}
	return found
}

func TestWatchesOnOneStream(t *testing.T) {
	both(t, func(t *testing.T, s *server) {
		client := s.client(t)
		put(t, client, "a", "1")   // 2
		put(t, client, "b/1", "1") // 3
		put(t, client, "a", "2")   // 4
		del(t, client, "b/1")      // 5
		ctx, cancel := context.WithCancel(within(t))
		past := client.Watch(ctx, "a", clientv3.WithRev(2))
		prefix := client.Watch(ctx, "b/", clientv3.WithPrefix(), clientv3.WithRev(1), clientv3.WithPrevKV())
		all := client.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithRev(4), clientv3.WithPrevKV())
		deletes := client.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithRev(1), clientv3.WithFilterPut())
		puts := client.Watch(ctx, "b", clientv3.WithRange("c"), clientv3.WithRev(1), clientv3.WithFilterDelete())
		from := client.Watch(ctx, "b", clientv3.WithFromKey(), clientv3.WithRev(5))
		live := client.Watch(ctx, "c", clientv3.WithCreatedNotify())
		created := <-live
		equal(t, "created", created.Created, true)
		later := client.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithRev(8))

		put(t, client, "c", "1")              // 6
		put(t, client, "b/2", "1")            // 7
		_, err := client.Txn(within(t)).Then( // 8
			clientv3.OpPut("c", "2"),
			clientv3.OpDelete("b/", clientv3.WithPrefix()),
			clientv3.OpPut("a", "3"),
		).Commit()
		check(t, err)

		equal(t, "from the past", events(t, past, 3), []string{"PUT a=1@2", "PUT a=2@4", "PUT a=3@8"})
		equal(t, "a prefix", events(t, prefix, 4), []string{"PUT b/1=1@3", "DELETE b/1=@5 was 1@3", "PUT b/2=1@7", "DELETE b/2=@8 was 1@7"})
		equal(t, "everything", events(t, all, 7), []string{"PUT a=2@4 was 1@2", "DELETE b/1=@5 was 1@3", "PUT c=1@6", "PUT b/2=1@7",
			"PUT c=2@8 was 1@6", "DELETE b/2=@8 was 1@7", "PUT a=3@8 was 2@4"})
		equal(t, "no puts", events(t, deletes, 2), []string{"DELETE b/1=@5", "DELETE b/2=@8"})
		equal(t, "no deletes", events(t, puts, 2), []string{"PUT b/1=1@3", "PUT b/2=1@7"})
		equal(t, "from a key", events(t, from, 5), []string{"DELETE b/1=@5", "PUT c=1@6", "PUT b/2=1@7", "PUT c=2@8", "DELETE b/2=@8"})
		equal(t, "from now", events(t, live, 2), []string{"PUT c=1@6", "PUT c=2@8"})
		equal(t, "from the future", events(t, later, 3), []string{"PUT c=2@8", "DELETE b/2=@8", "PUT a=3@8"})
		cancel()
		if _, more := <-all; more {
			t.Fatal("a watch that was cancelled went on")
		}
	})
}

func del(t *testing.T, client *clientv3.Client, key string) {
	t.Helper()
	_, err := client.Delete(within(t), key)
	check(t, err)
}

func TestProgressIsToldAndNeverTooEarly(t *testing.T) {
	both(t, func(t *testing.T, s *server) {
		client := s.client(t)
		notified := client.Watch(within(t), "quiet", clientv3.WithProgressNotify())
		put(t, client, "a", "1")
		revision := put(t, client, "a", "2")
		eventually(t, "progress up to the last write", func() bool {
			response := <-notified
			check(t, response.Err())
			equal(t, "a progress notification", response.IsProgressNotify(), true)
			return response.Header.Revision == revision
		})

		ctx := clientv3.WithRequireLeader(within(t)) // a stream of its own
		watch := client.Watch(ctx, "a", clientv3.WithRev(2))
		equal(t, "events", events(t, watch, 2), []string{"PUT a=1@2", "PUT a=2@3"})
		for i := range 20 {
			revision := put(t, client, "a", fmt.Sprint(i))
			check(t, client.RequestProgress(ctx))
			seen := int64(0)
			for told := int64(0); told < revision; {
				response := <-watch
				check(t, response.Err())
				for _, event := range response.Events {
					seen = event.Kv.ModRevision
				}
				if response.IsProgressNotify() {
					told = response.Header.Revision
					if told >= revision && seen != revision {
						t.Fatalf("told of %d before the event of %d", told, revision)
					}
					if told < revision {
						// etcd answers with what it knew; the client asks again.
						check(t, client.RequestProgress(ctx))
					}
				}
			}
		}
	}, "--watch-progress-notify-interval=100ms")
}

func TestACompactedWatchEndsWithTheReason(t *testing.T) {
	both(t, func(t *testing.T, s *server) {
		client := s.client(t)
		for i := range 9 {
			put(t, client, "a", fmt.Sprint(i))
		}
		_, err := client.Compact(within(t), 6)
		check(t, err)
		response := <-client.Watch(within(t), "a", clientv3.WithRev(5))
		equal(t, "cancelled", fmt.Sprint(response.Canceled, response.CompactRevision, errors.Is(response.Err(), rpctypes.ErrCompacted)), "true 6 true")
		first := events(t, client.Watch(within(t), "a", clientv3.WithRev(6), clientv3.WithPrevKV()), 5)
		equal(t, "from what is left", first[:2], []string{"PUT a=4@6", "PUT a=5@7 was 4@6"})
	})
}

func TestLargeRevisionsComeInFragments(t *testing.T) {
	both(t, func(t *testing.T, s *server) {
		client := s.client(t)
		value := strings.Repeat("x", 500_000)
		for i := range 9 {
			put(t, client, fmt.Sprintf("large/%d", i), value)
		}
		_, err := client.Delete(within(t), "large/", clientv3.WithPrefix()) // one revision of 9 events
		check(t, err)

		// The client puts fragments together, so this one reads the stream itself.
		stream, err := pb.NewWatchClient(client.ActiveConnection()).Watch(within(t))
		check(t, err)
		check(t, stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
			Key: []byte("large/"), RangeEnd: []byte("large0"), StartRevision: 11, PrevKv: true, Fragment: true,
		}}}))
		fragments, found := 0, []string{}
		for more := true; more; {
			response, err := stream.Recv()
			check(t, err)
			if response.Created {
				continue
			}
			fragments++
			more = response.Fragment
			for _, event := range response.Events {
				found = append(found, string(event.Kv.Key))
				equal(t, "bytes of the value before", len(event.PrevKv.Value), len(value))
			}
		}
		equal(t, "events", strings.Join(found, " "), "large/0 large/1 large/2 large/3 large/4 large/5 large/6 large/7 large/8")
		if fragments < 3 {
			t.Fatalf("4.5 MB came in %d fragments", fragments)
		}

		whole := client.Watch(within(t), "large/", clientv3.WithPrefix(), clientv3.WithRev(11), clientv3.WithPrevKV(), clientv3.WithFragment())
		equal(t, "events that the client put together", len((<-whole).Events), 9)
	})
}

// TestTheProtocolOfAWatchStream holds the order and content of the answers against what clients count on.
func TestTheProtocolOfAWatchStream(t *testing.T) {
	both(t, func(t *testing.T, s *server) {
		client := s.client(t)
		put(t, client, "a", "1")
		stream, err := pb.NewWatchClient(client.ActiveConnection()).Watch(within(t))
		check(t, err)
		create := func(r *pb.WatchCreateRequest) {
			check(t, stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}}))
		}
		cancel := func(id int64) {
			check(t, stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}}))
		}
		next := func() string {
			response, err := stream.Recv()
			check(t, err)
			return fmt.Sprintf("id=%d created=%v canceled=%v reason=%q compacted=%d events=%d revision=%d", response.WatchId,
				response.Created, response.Canceled, response.CancelReason, response.CompactRevision, len(response.Events), response.Header.Revision)
		}
		create(&pb.WatchCreateRequest{Key: []byte("a")})
		equal(t, "the first", next(), `id=0 created=true canceled=false reason="" compacted=0 events=0 revision=2`)
		create(&pb.WatchCreateRequest{Key: []byte("a"), WatchId: 7})
		equal(t, "with an id", next(), `id=7 created=true canceled=false reason="" compacted=0 events=0 revision=2`)
		create(&pb.WatchCreateRequest{Key: []byte("a"), WatchId: 7})
		equal(t, "with the same id", next(), `id=-1 created=true canceled=true reason="mvcc: duplicate watch ID provided on the WatchStream" compacted=0 events=0 revision=2`)
		create(&pb.WatchCreateRequest{Key: []byte("b"), RangeEnd: []byte("a")})
		equal(t, "of nothing", next(), `id=-1 created=true canceled=true reason="mvcc: watcher range is empty" compacted=0 events=0 revision=2`)
		create(&pb.WatchCreateRequest{Key: []byte("a"), StartRevision: -1})
		equal(t, "before the beginning", next(), `id=-1 created=true canceled=true reason="etcdserver: mvcc: required revision has been compacted" compacted=0 events=0 revision=2`)
		cancel(99)
		cancel(7)
		equal(t, "cancelled", next(), `id=7 created=false canceled=true reason="" compacted=0 events=0 revision=2`)
		put(t, client, "a", "2")
		equal(t, "the event", next(), `id=0 created=false canceled=false reason="" compacted=0 events=1 revision=3`)
		create(&pb.WatchCreateRequest{Key: []byte("b")})
		equal(t, "the next", next(), `id=1 created=true canceled=false reason="" compacted=0 events=0 revision=3`)
		check(t, stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}))
		equal(t, "progress", next(), `id=-1 created=false canceled=false reason="" compacted=0 events=0 revision=3`)
		// A stream that its client has finished with goes on serving.
		check(t, stream.CloseSend())
		put(t, client, "a", "3")
		equal(t, "after the half close", next(), `id=0 created=false canceled=false reason="" compacted=0 events=1 revision=4`)
	})
}

func TestEtcdctlWatches(t *testing.T) {
	both(t, func(t *testing.T, s *server) {
		client := s.client(t)
		put(t, client, "w/a", "1")
		put(t, client, "w/a", "2")
		del(t, client, "w/a")
		watch := s.etcdctlCommand(t, "watch", "--prefix", "w/", "--rev=2", "--prev-kv")
		output, err := watch.StdoutPipe()
		check(t, err)
		check(t, watch.Start())
		printed := readLines(output)
		expect := func(lines ...string) {
			t.Helper()
			for _, line := range lines {
				equal(t, "a line", <-printed, line)
			}
		}
		expect("PUT", "w/a", "1", "PUT", "w/a", "1", "w/a", "2", "DELETE", "w/a", "2", "w/a", "")
		put(t, client, "w/live", "3")
		expect("PUT", "w/live", "3")
		check(t, watch.Process.Signal(syscall.SIGINT))
		watch.Wait()

		hook := s.etcdctlCommand(t, "watch", "w/a", "--rev=4", "--", "sh", "-c", "echo $ETCD_WATCH_REVISION $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE")
		output, err = hook.StdoutPipe()
		check(t, err)
		check(t, hook.Start())
		printed = readLines(output)
		expect("DELETE", "w/a", "", `5 "DELETE" "w/a" ""`)
		hook.Process.Kill()
		hook.Wait()
	})
}
