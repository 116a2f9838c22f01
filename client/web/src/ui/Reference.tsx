import { CopyButton } from "./CopyButton.tsx";

/** What a person can quote to the operator of something that failed. */
export function Reference({ id }: { readonly id: string }) {
  if (!id) return null;
  return (
    <p class="reference">
      Reference <code>{id}</code>
      <CopyButton label="Copy the reference" text={() => id} />
    </p>
  );
}
