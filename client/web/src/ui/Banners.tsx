/** What is amiss with the line, or with the app. */
import { useEffect, useState } from "preact/hooks";
import type { Connection } from "../core/model.ts";
import { CloudOffIcon } from "./icons.tsx";
import { useUi } from "./state.ts";

/** A line that is back within this is not worth a word. */
const PATIENCE_MS = 1000;

export function ConnectionBanner() {
  const { chat } = useUi();
  const connection = chat.connection.value;
  const shown = useSteady(connection, PATIENCE_MS);
  return (
    <div class="connection" role="status">
      {shown === "offline" && connection === "offline" && (
        <p class="pill warn">
          <CloudOffIcon size={17} />
          You are offline. What you write is sent when you are back.
        </p>
      )}
      {shown === "reconnecting" && connection !== "live" && connection !== "offline" && (
        <p class="pill">
          <span class="spinner" />
          Reconnecting…
        </p>
      )}
    </div>
  );
}

/** Returns a trouble only once it has lasted; from reconnecting to connecting and back is one. */
function useSteady(connection: Connection, after: number): Connection {
  const [shown, setShown] = useState<Connection>("live");
  const kind = connection === "connecting" ? "reconnecting" : connection;
  useEffect(() => {
    if (kind === "live") {
      setShown("live");
      return;
    }
    const timer = setTimeout(() => setShown(kind), after);
    return () => clearTimeout(timer);
  }, [kind, after]);
  return shown;
}

/** Above the composer: it concerns what is about to be written. */
export function AppOfflineNote() {
  const { chat } = useUi();
  const offline = chat.appOnline.value === false && chat.connection.value === "live";
  const lasting = useLasting(offline, PATIENCE_MS);
  return (
    <div role="status">
      {lasting && offline && (
        <p class="app-offline">
          <span class="dot" aria-hidden="true" />
          {chat.app} is offline. Your messages wait until it is back.
        </p>
      )}
    </div>
  );
}

function useLasting(value: boolean, after: number): boolean {
  const [lasting, setLasting] = useState(false);
  useEffect(() => {
    if (!value) {
      setLasting(false);
      return;
    }
    const timer = setTimeout(() => setLasting(true), after);
    return () => clearTimeout(timer);
  }, [value, after]);
  return lasting;
}
