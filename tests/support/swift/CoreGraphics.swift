// The part of Core Graphics that edgeq's Swift files use.

public final class CGImage: @unchecked Sendable {}
