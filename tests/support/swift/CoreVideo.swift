// The part of Core Video that edgeq's Swift files use.

public final class CVPixelBuffer: @unchecked Sendable {}
public let kCVPixelFormatType_OneComponent8: UInt32 = 0x1F
public let kCVPixelFormatType_32BGRA: UInt32 = 0x4247_5241
