/** Initials on a color that belongs to the name. */
export function Avatar({ name }: { name: string | null | undefined }) {
  const hue = [...(name ?? "")].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)!) % 360, 7);
  return (
    <span className="avatar" aria-hidden="true" style={{ background: `hsl(${hue} 45% 35%)` }}>
      {name?.slice(0, 2) ?? "·"}
    </span>
  );
}
