package interop

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/status"
)

// keys are the keys of an answer, in its order.
func keys(response *clientv3.GetResponse) []string {
	found := []string{}
	for _, kv := range response.Kvs {
		found = append(found, string(kv.Key))
	}
	return found
}

func get(t *testing.T, client *clientv3.Client, key string, options ...clientv3.OpOption) *clientv3.GetResponse {
	t.Helper()
	response, err := client.Get(within(t), key, options...)
	check(t, err)
	return response
}

func put(t *testing.T, client *clientv3.Client, key, value string, options ...clientv3.OpOption) int64 {
	t.Helper()
	response, err := client.Put(within(t), key, value, options...)
	check(t, err)
	return response.Header.Revision
}

func TestRangesOfTheClient(t *testing.T) {
	both(t, func(t *testing.T, s *server) {
		client := s.client(t)
		for i, key := range []string{"c", "a", "b", "a", "d"} {
			equal(t, "revision", put(t, client, key, fmt.Sprint(9-i)), int64(i+2))
		}
		for _, row := range []struct {
			name    string
			key     string
			options []clientv3.OpOption
			want    []string
		}{
			{"first created", "", clientv3.WithFirstCreate(), []string{"c"}},
			{"last created", "", clientv3.WithLastCreate(), []string{"d"}},
			{"first changed", "", clientv3.WithFirstRev(), []string{"c"}},
			{"last changed", "", clientv3.WithLastRev(), []string{"d"}},
			{"first key", "", clientv3.WithFirstKey(), []string{"a"}},
			{"last key", "", clientv3.WithLastKey(), []string{"d"}},
			{"by version", "", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByVersion, clientv3.SortDescend), clientv3.WithLimit(1)}, []string{"a"}},
			{"by value", "", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByValue, clientv3.SortAscend)}, []string{"d", "a", "b", "c"}},
			{"half open", "a", []clientv3.OpOption{clientv3.WithRange("c")}, []string{"a", "b"}},
			{"from key", "b", []clientv3.OpOption{clientv3.WithFromKey()}, []string{"b", "c", "d"}},
			{"the past", "", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithRev(3)}, []string{"a", "c"}},
			{"serializable", "", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithSerializable()}, []string{"a", "b", "c", "d"}},
			{"changed late", "", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithMinModRev(5)}, []string{"a", "d"}},
			{"changed early", "", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithMaxModRev(4)}, []string{"b", "c"}},
			{"created late", "", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithMinCreateRev(4)}, []string{"b", "d"}},
			{"created early", "", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithMaxCreateRev(2)}, []string{"c"}},
		} {
			equal(t, row.name, keys(get(t, client, row.key, row.options...)), row.want)
		}

		page := get(t, client, "", clientv3.WithPrefix(), clientv3.WithLimit(3))
		equal(t, "a page", fmt.Sprint(keys(page), page.More, page.Count), "[a b c] true 4")
		page = get(t, client, "d", clientv3.WithFromKey(), clientv3.WithLimit(3), clientv3.WithRev(page.Header.Revision))
		equal(t, "the last page", fmt.Sprint(keys(page), page.More, page.Count), "[d] false 1")
		count := get(t, client, "", clientv3.WithPrefix(), clientv3.WithCountOnly())
		equal(t, "the count", fmt.Sprint(keys(count), count.More, count.Count), "[] false 4")
	})
}

func TestALargeRangeStreamsAsItIsRead(t *testing.T) {
	both(t, func(t *testing.T, s *server) {
		client := s.client(t)
		// More than one chunk, and more than the four megabytes that other clients take.
		for i := range 120 {
			put(t, client, fmt.Sprintf("large/%03d", i), strings.Repeat(fmt.Sprint(i%10), 50_000))
		}
		whole := get(t, client, "large/", clientv3.WithPrefix())
		stream, err := client.GetStream(within(t), "large/", clientv3.WithPrefix())
		check(t, err)
		chunks := 0
		var parts pb.RangeResponse
		for chunk := range stream {
			check(t, chunk.Err())
			chunks++
			parts.Kvs = append(parts.Kvs, chunk.RangeResponse.Kvs...)
			if header := chunk.RangeResponse.Header; header != nil {
				parts.Header, parts.Count, parts.More = header, chunk.RangeResponse.Count, chunk.RangeResponse.More
			}
		}
		equal(t, "the answer in parts", parts.String(), (*pb.RangeResponse)(whole).String())
		if chunks < 3 {
			t.Fatalf("six megabytes came in %d chunks", chunks)
		}
	})
}

func TestTransactionsOfTheClient(t *testing.T) {
	both(t, func(t *testing.T, s *server) {
		client := s.client(t)
		lease, err := client.Grant(within(t), 100)
		check(t, err)
		put(t, client, "key", "b", clientv3.WithLease(lease.ID))
		put(t, client, "key", "m", clientv3.WithIgnoreLease())
		put(t, client, "p/1", "x")
		put(t, client, "p/2", "x")

		// Every target with every comparison: version 2, created at 2, changed at 3, value m.
		for _, row := range []struct {
			compare clientv3.Cmp
			holds   bool
		}{
			{clientv3.Compare(clientv3.Version("key"), "=", 2), true},
			{clientv3.Compare(clientv3.Version("key"), "!=", 2), false},
			{clientv3.Compare(clientv3.Version("key"), "<", 3), true},
			{clientv3.Compare(clientv3.Version("key"), ">", 2), false},
			{clientv3.Compare(clientv3.CreateRevision("key"), "=", 2), true},
			{clientv3.Compare(clientv3.CreateRevision("key"), ">", 1), true},
			{clientv3.Compare(clientv3.CreateRevision("key"), "<", 2), false},
			{clientv3.Compare(clientv3.CreateRevision("key"), "!=", 3), true},
			{clientv3.Compare(clientv3.ModRevision("key"), "=", 3), true},
			{clientv3.Compare(clientv3.ModRevision("key"), "<", 3), false},
			{clientv3.Compare(clientv3.ModRevision("key"), ">", 2), true},
			{clientv3.Compare(clientv3.ModRevision("key"), "!=", 3), false},
			{clientv3.Compare(clientv3.Value("key"), "=", "m"), true},
			{clientv3.Compare(clientv3.Value("key"), "<", "ma"), true},
			{clientv3.Compare(clientv3.Value("key"), ">", "m"), false},
			{clientv3.Compare(clientv3.Value("key"), "!=", "m"), false},
			{clientv3.Compare(clientv3.LeaseValue("key"), "=", lease.ID), true},
			{clientv3.Compare(clientv3.LeaseValue("key"), "!=", lease.ID), false},
			{clientv3.Compare(clientv3.LeaseValue("key"), ">", clientv3.LeaseID(0)), true},
			{clientv3.Compare(clientv3.LeaseValue("key"), "<", clientv3.LeaseID(math.MaxInt64)), true},
			{clientv3.Compare(clientv3.Version("none"), "=", 0), true},
			{clientv3.Compare(clientv3.CreateRevision("none"), "<", 1), true},
			{clientv3.Compare(clientv3.ModRevision("none"), ">", 0), false},
			{clientv3.Compare(clientv3.LeaseValue("none"), "=", clientv3.LeaseID(0)), true},
			{clientv3.Compare(clientv3.Value("none"), "=", ""), false},
			{clientv3.Compare(clientv3.Value("none"), "!=", "x"), false},
			{clientv3.Compare(clientv3.Value("p/").WithPrefix(), "=", "x"), true},
			{clientv3.Compare(clientv3.Version("p/").WithPrefix(), ">", 1), false},
			{clientv3.Compare(clientv3.CreateRevision("p/1").WithRange("p/2"), "=", 4), true},
			{clientv3.Compare(clientv3.CreateRevision("none/").WithPrefix(), "=", 0), true},
			{clientv3.Compare(clientv3.Value("none/").WithPrefix(), "!=", "x"), false},
		} {
			response, err := client.Txn(within(t)).If(row.compare).Commit()
			check(t, err)
			equal(t, fmt.Sprint(&row.compare), response.Succeeded, row.holds)
		}

		// Comparisons see what was before; operations see each other.
		response, err := client.Txn(within(t)).Then(
			clientv3.OpPut("key", "n", clientv3.WithPrevKV()),
			clientv3.OpGet("key"),
			clientv3.OpTxn(
				[]clientv3.Cmp{clientv3.Compare(clientv3.Value("key"), "=", "m")},
				[]clientv3.Op{clientv3.OpDelete("p/", clientv3.WithPrefix(), clientv3.WithPrevKV()), clientv3.OpGet("p/", clientv3.WithPrefix())},
				[]clientv3.Op{clientv3.OpPut("never", "1")},
			),
			clientv3.OpGet("p/", clientv3.WithPrefix(), clientv3.WithCountOnly()),
			clientv3.OpGet("key", clientv3.WithRev(2)),
		).Commit()
		check(t, err)
		equal(t, "revision", response.Header.Revision, 6)
		answers := response.Responses
		equal(t, "the value before", string(answers[0].GetResponsePut().PrevKv.Value), "m")
		now := answers[1].GetResponseRange().Kvs[0]
		equal(t, "the value now", fmt.Sprintf("%s=%s", now.Key, now.Value), "key=n")
		equal(t, "its revisions, and no lease", []int64{now.CreateRevision, now.ModRevision, now.Version, now.Lease}, []int64{2, 6, 3, 0})
		nested := answers[2].GetResponseTxn()
		equal(t, "the branch", nested.Succeeded, true)
		equal(t, "the header of the branch", nested.Header.String(), "")
		equal(t, "deleted", nested.Responses[0].GetResponseDeleteRange().Deleted, 2)
		equal(t, "what was deleted", string(nested.Responses[0].GetResponseDeleteRange().PrevKvs[1].Key), "p/2")
		equal(t, "found in the branch", nested.Responses[1].GetResponseRange().Count, 0)
		equal(t, "found after it", answers[3].GetResponseRange().Count, 0)
		equal(t, "found in the past", string(answers[4].GetResponseRange().Kvs[0].Value), "b")

		// The same again takes the other branch.
		response, err = client.Txn(within(t)).Then(
			clientv3.OpTxn(
				[]clientv3.Cmp{clientv3.Compare(clientv3.Value("key"), "=", "m")},
				[]clientv3.Op{clientv3.OpPut("never", "1")},
				[]clientv3.Op{clientv3.OpGet("key", clientv3.WithKeysOnly())},
			),
		).Commit()
		check(t, err)
		equal(t, "the branch", response.Responses[0].GetResponseTxn().Succeeded, false)
		equal(t, "revision", response.Header.Revision, 6)
	})
}

// refusal is an error as a client compares it.
func refusal(err error) string {
	return fmt.Sprint(status.Code(err), ": ", status.Convert(err).Message())
}

// TestRefusals sends what no careful client would, so it speaks the protocol itself: clientv3 turns some texts into
// errors of its own. Cairn must have etcd's codes and texts, to the letter.
func TestRefusals(t *testing.T) {
	large := make([]byte, 1536*1024)
	puts := func(n int) (ops []*pb.RequestOp) {
		for i := range n {
			ops = append(ops, opPut(&pb.PutRequest{Key: fmt.Appendf(nil, "op/%d", i)}))
		}
		return ops
	}
	both(t, func(t *testing.T, s *server) {
		client := s.client(t)
		for i := range 5 {
			put(t, client, "key", fmt.Sprint(i))
		}
		_, err := client.Compact(within(t), 4)
		check(t, err)
		lease, err := client.Grant(within(t), 100)
		check(t, err)

		connection := client.ActiveConnection()
		kv, leases := pb.NewKVClient(connection), pb.NewLeaseClient(connection)
		maintenance := pb.NewMaintenanceClient(connection)
		ctx := context.Background()
		ask := func(ops ...*pb.RequestOp) func() error {
			return func() error { _, err := kv.Txn(ctx, &pb.TxnRequest{Success: ops}); return err }
		}
		ranges := func(r *pb.RangeRequest) func() error {
			return func() error { _, err := kv.Range(ctx, r); return err }
		}
		streams := func(r *pb.RangeRequest) func() error {
			return func() error {
				stream, err := kv.RangeStream(ctx, r)
				if err == nil {
					_, err = stream.Recv()
				}
				return err
			}
		}
		sets := func(r *pb.PutRequest) func() error {
			return func() error { _, err := kv.Put(ctx, r); return err }
		}
		key := []byte("key")
		for _, row := range []struct {
			name string
			ask  func() error
			want string
		}{
			{"range without a key", ranges(&pb.RangeRequest{}), "InvalidArgument: etcdserver: key is not provided"},
			{"stream without a key", streams(&pb.RangeRequest{}), "InvalidArgument: etcdserver: key is not provided"},
			{"range in the future", ranges(&pb.RangeRequest{Key: key, Revision: 99}), "OutOfRange: etcdserver: mvcc: required revision is a future revision"},
			{"stream in the future", streams(&pb.RangeRequest{Key: key, Revision: 99}), "OutOfRange: etcdserver: mvcc: required revision is a future revision"},
			{"range in what is gone", ranges(&pb.RangeRequest{Key: key, Revision: 3}), "OutOfRange: etcdserver: mvcc: required revision has been compacted"},
			{"stream in what is gone", streams(&pb.RangeRequest{Key: key, Revision: 3}), "OutOfRange: etcdserver: mvcc: required revision has been compacted"},
			{"unknown order", ranges(&pb.RangeRequest{Key: key, SortOrder: 9}), "InvalidArgument: etcdserver: invalid sort option"},
			{"unknown target", ranges(&pb.RangeRequest{Key: key, SortTarget: 9}), "InvalidArgument: etcdserver: invalid sort option"},
			{"negative limit", ranges(&pb.RangeRequest{Key: key, Limit: -1, Revision: -5}), "OK: "},
			{"ordered stream", streams(&pb.RangeRequest{Key: key, SortOrder: pb.RangeRequest_DESCEND}), "Unimplemented: RangeStream does not support custom sort orders"},
			{"filtered stream", streams(&pb.RangeRequest{Key: key, MinModRevision: 3}), "Unimplemented: RangeStream does not support revision filters"},
			{"put without a key", sets(&pb.PutRequest{}), "InvalidArgument: etcdserver: key is not provided"},
			{"value and ignored", sets(&pb.PutRequest{Key: key, Value: key, IgnoreValue: true}), "InvalidArgument: etcdserver: value is provided"},
			{"lease and ignored", sets(&pb.PutRequest{Key: key, Lease: int64(lease.ID), IgnoreLease: true}), "InvalidArgument: etcdserver: lease is provided"},
			{"ignored but absent", sets(&pb.PutRequest{Key: []byte("absent"), IgnoreValue: true}), "InvalidArgument: etcdserver: key not found"},
			{"put with no lease", sets(&pb.PutRequest{Key: key, Lease: 4711}), "NotFound: etcdserver: requested lease not found"},
			{"too large", sets(&pb.PutRequest{Key: key, Value: large}), "InvalidArgument: etcdserver: request is too large"},
			{"far too large", sets(&pb.PutRequest{Key: key, Value: append(large, large...)}), "ResourceExhausted: grpc: received message larger than max (3145738 vs. 2097152)"},
			{"delete without a key", func() error { _, err := kv.DeleteRange(ctx, &pb.DeleteRangeRequest{}); return err }, "InvalidArgument: etcdserver: key is not provided"},
			{"compare without a key", func() error {
				_, err := kv.Txn(ctx, &pb.TxnRequest{Compare: []*pb.Compare{{}}})
				return err
			}, "InvalidArgument: etcdserver: key is not provided"},
			{"an operation that is none", ask(&pb.RequestOp{}), "InvalidArgument: etcdserver: key not found"},
			{"a key twice", ask(append(puts(2), puts(1)...)...), "InvalidArgument: etcdserver: duplicate key given in txn request"},
			{"a key in a deleted range", ask(append(puts(1), opDelete(&pb.DeleteRangeRequest{Key: []byte("op/"), RangeEnd: []byte("op0")}))...), "InvalidArgument: etcdserver: duplicate key given in txn request"},
			{"a key again in a branch", ask(append(puts(1), opTxn(&pb.TxnRequest{Failure: puts(1)}))...), "InvalidArgument: etcdserver: duplicate key given in txn request"},
			{"a key in both branches", ask(opTxn(&pb.TxnRequest{Success: puts(1), Failure: puts(1)})), "OK: "},
			{"as many as may be", ask(puts(128)...), "OK: "},
			{"too many", ask(puts(129)...), "InvalidArgument: etcdserver: too many operations in txn request"},
			{"too many together", ask(append(puts(100), opTxn(&pb.TxnRequest{Failure: puts(29)}))...), "InvalidArgument: etcdserver: too many operations in txn request"},
			{"a future range in it", ask(append(puts(1), opRange(&pb.RangeRequest{Key: key, Revision: 99}))...), "OutOfRange: etcdserver: mvcc: required revision is a future revision"},
			{"an old range in it", ask(append(puts(1), opRange(&pb.RangeRequest{Key: key, Revision: 2}))...), "OutOfRange: etcdserver: mvcc: required revision has been compacted"},
			{"a bad order in it", ask(opRange(&pb.RangeRequest{Key: key, SortOrder: 9})), "InvalidArgument: etcdserver: invalid sort option"},
			{"no lease in it", ask(opPut(&pb.PutRequest{Key: key, Lease: 4711})), "NotFound: etcdserver: requested lease not found"},
			{"absent in it", ask(opPut(&pb.PutRequest{Key: []byte("absent"), IgnoreLease: true})), "InvalidArgument: etcdserver: key not found"},
			{"compacted twice", func() error { _, err := kv.Compact(ctx, &pb.CompactionRequest{Revision: 4}); return err }, "OutOfRange: etcdserver: mvcc: required revision has been compacted"},
			{"compacted too far", func() error { _, err := kv.Compact(ctx, &pb.CompactionRequest{Revision: 99}); return err }, "OutOfRange: etcdserver: mvcc: required revision is a future revision"},
			{"a lease again", func() error {
				_, err := leases.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: int64(lease.ID), TTL: 9})
				return err
			}, "FailedPrecondition: etcdserver: lease already exists"},
			{"a lease for ever", func() error {
				_, err := leases.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 9_000_000_001})
				return err
			}, "OutOfRange: etcdserver: too large lease TTL"},
			{"no lease to revoke", func() error { _, err := leases.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: 4711}); return err }, "NotFound: etcdserver: requested lease not found"},
			{"a hash of the future", func() error { _, err := maintenance.HashKV(ctx, &pb.HashKVRequest{Revision: 99_999}); return err }, "OutOfRange: etcdserver: mvcc: required revision is a future revision"},
			{"a hash of what is gone", func() error { _, err := maintenance.HashKV(ctx, &pb.HashKVRequest{Revision: 2}); return err }, "OutOfRange: etcdserver: mvcc: required revision has been compacted"},
			{"a password", func() error {
				_, err := pb.NewAuthClient(connection).Authenticate(ctx, &pb.AuthenticateRequest{Name: "a", Password: "b"})
				return err
			}, "FailedPrecondition: etcdserver: authentication is not enabled"},
			{"no such method", func() error {
				return connection.Invoke(ctx, "/etcdserverpb.KV/Steal", &pb.RangeRequest{}, &pb.RangeResponse{})
			}, "Unimplemented: unknown method Steal for service etcdserverpb.KV"},
			{"no such service", func() error {
				return connection.Invoke(ctx, "/etcdserverpb.Kv/Range", &pb.RangeRequest{}, &pb.RangeResponse{})
			}, "Unimplemented: unknown service etcdserverpb.Kv"},
		} {
			before := get(t, client, "key").Header.Revision
			got := refusal(row.ask())
			if got != row.want {
				t.Errorf("%s:\n got %s\nwant %s", row.name, got, row.want)
			}
			if after := get(t, client, "key").Header.Revision; got != "OK: " && after != before {
				t.Errorf("%s: refused, but the revision went from %d to %d", row.name, before, after)
			}
		}
	})
}

func opPut(r *pb.PutRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}}
}

func opRange(r *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
}

func opDelete(r *pb.DeleteRangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r}}
}

func opTxn(r *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: r}}
}
