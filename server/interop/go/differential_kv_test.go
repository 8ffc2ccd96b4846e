package interop

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// A generator draws questions, right ones and wrong ones.
type generator struct {
	*rand.Rand
	user string            // who asks, if anybody
	auth bool              // whether authentication may be enabled
	port int               // of the member that was added last
	ends map[string][]byte // of intervals that are permitted, by their beginnings
}

// one draws from a list.
func one[T any](g *generator, from ...T) T { return from[g.IntN(len(from))] }

// seldom is true one time in so many.
func (g *generator) seldom(in int) bool { return g.IntN(in) == 0 }

// key is one of few, so that questions meet; seldom none at all. There are twelve: so many etcd sorts by insertion, and
// what sorts alike stays in the order of keys, as it always does in Cairn.
func (g *generator) key() []byte {
	if g.seldom(40) {
		return nil
	}
	if g.seldom(30) {
		return one(g, []byte("\x00"), []byte("\xff"), []byte("\xff\xff"), make([]byte, 300))
	}
	return []byte(one(g, "a", "aa", "b", "b/1", "b/2", "c", "d/x", "z"))
}

// end is the end of an interval that begins with a key.
func (g *generator) end(key []byte) []byte {
	switch g.IntN(8) {
	case 0, 1, 2:
		return nil
	case 3:
		return []byte{0}
	case 4:
		return clientPrefixEnd(key)
	default:
		end := g.key()
		if g.auth && string(end) <= string(key) {
			return nil // who may ask about nothing at all: a row of docs/compat.md
		}
		return end
	}
}

// clientPrefixEnd is the end of all keys that begin like this one.
func clientPrefixEnd(key []byte) []byte {
	for i := len(key) - 1; i >= 0; i-- {
		if key[i] < 0xff {
			end := append([]byte{}, key[:i+1]...)
			end[i]++
			return end
		}
	}
	return []byte{0}
}

func (g *generator) value() []byte {
	if g.seldom(150) {
		return make([]byte, 25_000) // larger than a request may be
	}
	return []byte(one(g, "", "1", "2", "v", "w", "\x00\xff", "a longer value than the others"))
}

// A number is known when it is asked for.
type number func(*talk) int64

// exactly is a number that depends on nothing.
func exactly(n int64) number { return func(*talk) int64 { return n } }

// at is a revision: mostly none, or one of the past, seldom of the future, compacted or none that can be.
func (g *generator) at() number {
	switch g.IntN(12) {
	case 0, 1, 2, 3, 4, 5:
		return exactly(0)
	case 6:
		return exactly(one(g, int64(-1), 1, 2, math.MaxInt64, math.MinInt64))
	case 7:
		ahead := int64(g.IntN(3))
		return func(s *talk) int64 { return s.revision + ahead }
	case 8:
		beside := int64(g.IntN(3)) - 1
		return func(s *talk) int64 { return s.compacted + beside }
	default:
		back := int64(g.IntN(30))
		return func(s *talk) int64 { return max(s.revision-back, 0) }
	}
}

// bound is a bound of a filter by revisions.
func (g *generator) bound() number {
	if !g.seldom(6) {
		return exactly(0)
	}
	return g.at()
}

// leaseID is one of few that sequences make, or an odd one.
func (g *generator) leaseID() int64 {
	if g.seldom(12) {
		return one(g, int64(-1), 99, math.MaxInt64, math.MinInt64)
	}
	return int64(1 + g.IntN(8))
}

func (g *generator) rangeRequest() func(*talk) *etcdserverpb.RangeRequest {
	key := g.key()
	request := &etcdserverpb.RangeRequest{
		Key: key, RangeEnd: g.end(key),
		Serializable: g.seldom(3), KeysOnly: g.seldom(6), CountOnly: g.seldom(8),
	}
	if g.seldom(3) {
		request.Limit = one(g, int64(1), 2, 3, 100, math.MaxInt64, -1, math.MinInt64)
	}
	if g.seldom(3) {
		request.SortOrder = etcdserverpb.RangeRequest_SortOrder(g.IntN(3))
		request.SortTarget = etcdserverpb.RangeRequest_SortTarget(g.IntN(5))
	}
	if g.seldom(80) {
		request.SortOrder = one(g, etcdserverpb.RangeRequest_SortOrder(3), -1, math.MaxInt32)
	}
	if g.seldom(80) {
		request.SortTarget = one(g, etcdserverpb.RangeRequest_SortTarget(5), -1, math.MaxInt32)
	}
	revision := g.at()
	bounds := []number{g.bound(), g.bound(), g.bound(), g.bound()}
	return func(s *talk) *etcdserverpb.RangeRequest {
		asked := proto.Clone(request).(*etcdserverpb.RangeRequest)
		asked.Revision = revision(s)
		asked.MinModRevision, asked.MaxModRevision = bounds[0](s), bounds[1](s)
		asked.MinCreateRevision, asked.MaxCreateRevision = bounds[2](s), bounds[3](s)
		return asked
	}
}

func (g *generator) putRequest() *etcdserverpb.PutRequest {
	request := &etcdserverpb.PutRequest{Key: g.key(), Value: g.value(), PrevKv: g.seldom(3)}
	if g.seldom(6) {
		request.Lease = g.leaseID()
	}
	if g.seldom(12) {
		request.IgnoreValue = true
		if !g.seldom(4) {
			request.Value = nil
		}
	}
	if g.seldom(12) {
		request.IgnoreLease = true
		if !g.seldom(4) {
			request.Lease = 0
		}
	}
	return request
}

func (g *generator) deleteRequest() *etcdserverpb.DeleteRangeRequest {
	key := g.key()
	request := &etcdserverpb.DeleteRangeRequest{Key: key, PrevKv: g.seldom(2)}
	if g.seldom(3) {
		request.RangeEnd = g.end(key)
	}
	return request
}

func (g *generator) comparison() func(*talk) *etcdserverpb.Compare {
	c := &etcdserverpb.Compare{
		Result: etcdserverpb.Compare_CompareResult(g.IntN(4)),
		Target: etcdserverpb.Compare_CompareTarget(g.IntN(5)),
		Key:    g.key(),
	}
	if g.seldom(60) {
		c.Result = one(g, etcdserverpb.Compare_CompareResult(4), -1)
	}
	if g.seldom(60) {
		c.Target = one(g, etcdserverpb.Compare_CompareTarget(5), -1)
	}
	if g.seldom(5) {
		c.RangeEnd = g.end(c.Key)
	}
	// Mostly what the target asks for, seldom another one's or nothing.
	kind := int(c.Target)
	if g.seldom(10) {
		kind = g.IntN(6)
	}
	if kind == 3 {
		c.TargetUnion = &etcdserverpb.Compare_Value{Value: g.value()}
	}
	revision, version, lease := g.at(), int64(g.IntN(4))-g.Int64N(2), g.leaseID()
	return func(s *talk) *etcdserverpb.Compare {
		asked := proto.Clone(c).(*etcdserverpb.Compare)
		switch kind {
		case 0:
			asked.TargetUnion = &etcdserverpb.Compare_Version{Version: version}
		case 1:
			asked.TargetUnion = &etcdserverpb.Compare_CreateRevision{CreateRevision: revision(s)}
		case 2:
			asked.TargetUnion = &etcdserverpb.Compare_ModRevision{ModRevision: revision(s)}
		case 4:
			asked.TargetUnion = &etcdserverpb.Compare_Lease{Lease: lease}
		}
		return asked
	}
}

// txnRequest is a transaction, with others in it as deep as depth allows.
func (g *generator) txnRequest(depth int) func(*talk) *etcdserverpb.TxnRequest {
	count := func() int {
		if g.seldom(25) {
			return 13 // more than there may be
		}
		return g.IntN(4)
	}
	var comparisons []func(*talk) *etcdserverpb.Compare
	for range min(count(), 1+g.IntN(13)) {
		comparisons = append(comparisons, g.comparison())
	}
	var branches [2][]func(*talk) *etcdserverpb.RequestOp
	for i := range branches {
		for range count() {
			branches[i] = append(branches[i], g.operation(depth))
		}
	}
	return func(s *talk) *etcdserverpb.TxnRequest {
		request := &etcdserverpb.TxnRequest{}
		for _, c := range comparisons {
			request.Compare = append(request.Compare, c(s))
		}
		for _, operation := range branches[0] {
			request.Success = append(request.Success, operation(s))
		}
		for _, operation := range branches[1] {
			request.Failure = append(request.Failure, operation(s))
		}
		return request
	}
}

func (g *generator) operation(depth int) func(*talk) *etcdserverpb.RequestOp {
	choice := g.IntN(10)
	switch {
	case g.seldom(60):
		return func(*talk) *etcdserverpb.RequestOp { return &etcdserverpb.RequestOp{} }
	case choice < 4:
		put := g.putRequest()
		return func(*talk) *etcdserverpb.RequestOp {
			return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestPut{RequestPut: put}}
		}
	case choice < 6:
		deletion := g.deleteRequest()
		return func(*talk) *etcdserverpb.RequestOp {
			return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestDeleteRange{RequestDeleteRange: deletion}}
		}
	case choice < 8 && depth > 0:
		inner := g.txnRequest(depth - 1)
		return func(s *talk) *etcdserverpb.RequestOp {
			return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestTxn{RequestTxn: inner(s)}}
		}
	default:
		read := g.rangeRequest()
		return func(s *talk) *etcdserverpb.RequestOp {
			return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestRange{RequestRange: read(s)}}
		}
	}
}

// kv asks about keys.
func (g *generator) kv() step {
	switch choice := g.IntN(100); {
	case choice < 30:
		return g.put()
	case choice < 42:
		return g.delete()
	case choice < 64:
		return g.read()
	case choice < 72:
		return g.stream()
	case choice < 92:
		return g.txn()
	case choice < 95:
		return g.compact()
	case choice < 97:
		return g.hashKV()
	default:
		return g.leaseStep()
	}
}

func (g *generator) put() step {
	request := g.putRequest()
	return unary("/etcdserverpb.KV/Put", g.user, func(*talk) proto.Message { return request },
		func() proto.Message { return &etcdserverpb.PutResponse{} }, nil)
}

func (g *generator) delete() step {
	request := g.deleteRequest()
	return unary("/etcdserverpb.KV/DeleteRange", g.user, func(*talk) proto.Message { return request },
		func() proto.Message { return &etcdserverpb.DeleteRangeResponse{} }, nil)
}

func (g *generator) read() step {
	request := g.rangeRequest()
	return unary("/etcdserverpb.KV/Range", g.user, func(s *talk) proto.Message { return request(s) },
		func() proto.Message { return &etcdserverpb.RangeResponse{} }, nil)
}

func (g *generator) txn() step {
	request := g.txnRequest(2)
	return unary("/etcdserverpb.KV/Txn", g.user, func(s *talk) proto.Message { return request(s) },
		func() proto.Message { return &etcdserverpb.TxnResponse{} }, nil)
}

func (g *generator) compact() step {
	revision, physical := g.at(), g.seldom(2)
	if g.seldom(2) {
		back := int64(g.IntN(20))
		revision = func(s *talk) int64 { return s.revision - back }
	}
	return unary("/etcdserverpb.KV/Compact", g.user, func(s *talk) proto.Message {
		asked := &etcdserverpb.CompactionRequest{Revision: revision(s), Physical: physical}
		s.compacting = asked.Revision
		return asked
	}, func() proto.Message { return &etcdserverpb.CompactionResponse{} },
		func(s *talk, _ proto.Message) {
			s.compacted = s.compacting
			s.compactions[s.compacted] = true
		})
}

func (g *generator) hashKV() step {
	revision := g.at()
	return unary("/etcdserverpb.Maintenance/HashKV", g.user, func(s *talk) proto.Message {
		asked := &etcdserverpb.HashKVRequest{Revision: revision(s)}
		// What a compaction found is remembered by etcd until it restarts: a row of docs/compat.md.
		if s.compactions[asked.Revision] {
			asked.Revision = math.MaxInt64
		}
		return asked
	}, func() proto.Message { return &etcdserverpb.HashKVResponse{} }, nil)
}

// stream reads with RangeStream, part by part.
func (g *generator) stream() step {
	request := g.rangeRequest()
	user := g.user
	return func(s *talk) exchange {
		asked := request(s)
		if asked.SortOrder == etcdserverpb.RangeRequest_NONE {
			asked.SortTarget = etcdserverpb.RangeRequest_KEY // etcd sorts each part by itself: a row of docs/compat.md
		}
		question := s.question("/etcdserverpb.KV/RangeStream", user, asked)
		ctx, cancel := s.as(user)
		defer cancel()
		var parts []proto.Message
		err := s.receiveAll(ctx, "/etcdserverpb.KV/RangeStream", asked, func() proto.Message {
			part := &etcdserverpb.RangeStreamResponse{}
			parts = append(parts, part)
			return part
		})
		answer := ""
		for i, part := range parts[:len(parts)-1] { // the last was never received
			answer += fmt.Sprintf("part %d: %s; ", i, s.text(part))
		}
		if err != nil {
			answer += s.refusal(err)
		}
		return exchange{question, answer}
	}
}

// receiveAll calls a method that answers with a stream, and receives until its end.
func (s *talk) receiveAll(ctx context.Context, method string, request proto.Message, next func() proto.Message) error {
	stream, err := s.connection.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method)
	if err != nil {
		next()
		return err
	}
	if err := stream.SendMsg(request); err != nil && err != io.EOF {
		next()
		return err
	}
	check := stream.CloseSend()
	for {
		if err := stream.RecvMsg(next()); err == io.EOF {
			return check
		} else if err != nil {
			return err
		}
	}
}
