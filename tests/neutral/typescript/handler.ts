// A handler process on nothing but generated stubs: an echo, and two that stream. What stands
// here is what any language has to write, so it is to stay short.
//
// It lives by crashing: whatever goes wrong with its line ends it, and what starts it again gets
// the unfinished work delivered again. So it keeps no books of leases, retries or outcomes.

import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { ChannelCredentials } from "@grpc/grpc-js";
import { GrpcTransport } from "@protobuf-ts/grpc-transport";
import * as handler from "./build/ts/capsule_protocol/v1/handler_service";
import { HandlerServiceClient } from "./build/ts/capsule_protocol/v1/handler_service.client";
import * as session from "./build/ts/capsule_protocol/v1/session_service";
import { SessionServiceClient } from "./build/ts/capsule_protocol/v1/session_service.client";

const { CAPSULE_ADDRESS = "127.0.0.1:7400", CAPSULE_TOKEN = "", CAPSULE_APP = "" } = process.env;
const transport = new GrpcTransport({
  host: CAPSULE_ADDRESS,
  channelCredentials: ChannelCredentials.createInsecure(),
  meta: { authorization: `Bearer ${CAPSULE_TOKEN}`, "capsule-app": CAPSULE_APP },
});
const sessions = new SessionServiceClient(transport);
const line = new HandlerServiceClient(transport).attach();

const WORD_MS = 10;

/** Answers a turn with one message. */
async function echo(lease: handler.Lease, text: string): Promise<void> {
  await sessions.reply({ ...lease, requestId: randomUUID(), text, key: "" });
}

/** Answers a turn word by word, by unary calls. */
async function append(lease: handler.Lease, words: string[]): Promise<void> {
  const streamId = randomUUID();
  await sessions.openStream({ ...lease, requestId: streamId, key: "" });
  for (const text of words) {
    await sessions.appendStream(session.AppendStreamRequest.create({ ...lease, streamId, text }));
    await pause(WORD_MS);
  }
  const end = { ...lease, requestId: randomUUID(), streamId };
  await sessions.closeStream(session.CloseStreamRequest.create(end));
}

/** Answers a turn word by word, on a stream. */
async function stream(lease: handler.Lease, words: string[]): Promise<void> {
  const call = sessions.streamReply();
  const streamId = randomUUID();
  const send = (request: session.StreamReplyFrame["request"]) =>
    call.requests.send({ frames: [{ request }] });
  const write = async () => {
    await send({
      oneofKind: "openStream",
      openStream: { ...lease, requestId: streamId, key: "" },
    });
    for (const text of words) {
      const delta = session.AppendStreamRequest.create({ ...lease, streamId, text });
      await send({ oneofKind: "appendStream", appendStream: delta });
      await pause(WORD_MS);
    }
    const end = { ...lease, requestId: randomUUID(), streamId };
    const closeStream = session.CloseStreamRequest.create(end);
    await send({ oneofKind: "closeStream", closeStream });
    await call.requests.complete();
  };
  const read = async () => {
    for await (const { results } of call.responses)
      for (const { result } of results)
        if (result.oneofKind === "error") throw new Error(result.error.message);
  };
  await Promise.all([write(), read()]);
}

async function answer(lease: handler.Lease, message: string): Promise<void> {
  const [verb = "", rest = ""] = message.split(/ (.*)/s);
  const words = rest.split(/(?<= )/);
  if (verb === "echo" || verb === "both") await echo(lease, rest);
  if (verb === "stream" || verb === "both") await stream(lease, words);
  else if (verb === "append") await append(lease, words);
  else if (verb !== "echo") throw new Error("say echo, stream, append or both");
}

/** Does one piece of work and sends its one outcome. */
async function work({ invocationId, attempt, kind }: handler.Invocation): Promise<void> {
  const lease = { invocationId, attempt };
  let status = handler.OutcomeStatus.COMPLETED;
  try {
    await answer(lease, kind.oneofKind === "turn" ? (kind.turn.message?.text ?? "") : "");
  } catch (error) {
    console.error(error);
    status = handler.OutcomeStatus.FAILED;
  }
  await tell({ oneofKind: "outcome", outcome: handler.Outcome.create({ ...lease, status }) });
}

/** Sends a frame to the sidecar. */
const tell = (frame: handler.HandlerFrame["frame"]) => line.requests.send({ frames: [{ frame }] });

async function main(): Promise<void> {
  const hello = handler.Hello.create({
    app: CAPSULE_APP, protocolVersion: "1", processId: randomUUID(),
    clientName: "bare-typescript", clientVersion: "0", declarations: { message: true },
  });
  await tell({ oneofKind: "hello", hello });
  let number = 0;
  for await (const { frames } of line.responses)
    for (const { frame } of frames)
      if (frame.oneofKind === "invocation") void work(frame.invocation);
      else if (frame.oneofKind === "welcome") {
        const every = frame.welcome.limits?.beatInterval ?? { seconds: 3, nanos: 0 };
        const beat = () => void tell({ oneofKind: "beat", beat: { number: ++number } });
        setInterval(beat, every.seconds * 1000 + every.nanos / 1e6);
      }
  throw new Error("the sidecar has ended the line");
}

void main(); // what it throws ends the process, and so does what is thrown beside it
