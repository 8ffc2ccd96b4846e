package interop

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestAcknowledgedWritesSurviveCrashes kills the server while many write, again and again. What was acknowledged must
// be there, with the revision that was promised; what was not may be there or not, but not twice and not altered.
func TestAcknowledgedWritesSurviveCrashes(t *testing.T) {
	const writers, crashes = 8, 3
	both(t, func(t *testing.T, s *server) {
		acknowledged := make([]map[string]int64, writers)
		for round := range crashes {
			ctx, stop := context.WithCancel(context.Background())
			var group sync.WaitGroup
			for writer := range writers {
				if acknowledged[writer] == nil {
					acknowledged[writer] = map[string]int64{}
				}
				client := s.client(t)
				group.Go(func() {
					for i := 0; ctx.Err() == nil; i++ {
						key := fmt.Sprintf("crash/%d/%d/%05d", writer, round, i)
						if response, err := client.Put(ctx, key, key); err == nil {
							acknowledged[writer][key] = response.Header.Revision
						} else {
							return
						}
					}
				})
			}
			time.Sleep(300 * time.Millisecond)
			s.kill()
			stop()
			group.Wait()
			s.run(t)
		}

		client := s.client(t)
		response := get(t, client, "crash/", clientv3.WithPrefix())
		found := map[string]int64{}
		for _, kv := range response.Kvs {
			equal(t, "a value", string(kv.Value), string(kv.Key))
			equal(t, "times that it was written", kv.Version, 1)
			found[string(kv.Key)] = kv.ModRevision
		}
		count := 0
		for _, writes := range acknowledged {
			for key, revision := range writes {
				count++
				if found[key] != revision {
					t.Errorf("%s was written at %d, and is now at %d", key, revision, found[key])
				}
			}
		}
		if count < 100*crashes {
			t.Fatalf("only %d writes", count)
		}
		if unknown := len(found) - count; unknown < 0 || unknown > writers*crashes {
			t.Fatalf("%d keys that nobody was told of", unknown)
		}
		t.Logf("%s: %d acknowledged writes survived %d crashes", s.kind, count, crashes)
	})
}
